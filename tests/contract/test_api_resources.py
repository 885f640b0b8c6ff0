"""What an API server serves: discovery, namespaces, definitions, events."""

import httpx
import pytest

from kopf_finalizers.testing._definitions import custom_resource_definition

from ..support.answers import A, accepted, finalizers, make, refused, stored
from ..support.servers import CRDS, Api, Body, Resource, Server, wait_until


def test_discovery_of_a_resource(api: Api, resource: Resource) -> None:
    """A defined resource is discovered as Kopf does it: groups, versions, resources."""
    groups = {g["name"]: g for g in accepted(api.get("/apis"))["groups"]}
    offered = {"groupVersion": "example.com/v1", "version": "v1"}
    assert groups["example.com"]["versions"] == [offered]
    assert groups["example.com"]["preferredVersion"] == offered
    group = accepted(api.get("/apis/example.com"))
    assert group["kind"] == "APIGroup"
    assert group["versions"] == [offered]
    body = accepted(api.get("/apis/example.com/v1"))
    assert (body["kind"], body["groupVersion"]) == ("APIResourceList", "example.com/v1")
    found = {r["name"]: r for r in body["resources"]}
    things = found["things"]
    assert (things["kind"], things["singularName"]) == ("Thing", "thing")
    assert things["namespaced"] is True
    verbs = {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert verbs <= set(things["verbs"])
    status = found["things/status"]
    assert (status["kind"], status["singularName"]) == ("Thing", "")
    assert set(status["verbs"]) == {"get", "patch", "update"}


def test_discovery_of_what_is_built_in(api: Api) -> None:
    """The server's own version and resources are discovered, as far as Kopf needs them."""
    assert accepted(api.get("/version"))["major"] == "1"
    assert accepted(api.get("/api"))["versions"] == ["v1"]
    core = {r["name"]: r for r in accepted(api.get("/api/v1"))["resources"]}
    assert (core["namespaces"]["kind"], core["namespaces"]["namespaced"]) == ("Namespace", False)
    assert (core["events"]["kind"], core["events"]["namespaced"]) == ("Event", True)
    assert "namespaces/status" in core
    own = accepted(api.get("/apis/apiextensions.k8s.io/v1"))["resources"]
    assert "customresourcedefinitions" in {r["name"] for r in own}


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api/v2",
        "/api/v1/nothing",
        "/apis/nothing.example.com",
        "/apis/nothing.example.com/v1",
        "/apis/example.com/v2",
        "/apis/example.com/v2/things",
        "/apis/example.com/v1/nothing",
        "/apis/example.com/v1/things/a",
        "/apis/example.com/v1/namespaces/default/things/a/status/more",
        "/apis/example.com/v1/namespaces/default/things/a/nothing",
    ],
)
def test_paths_that_lead_nowhere(api: Api, resource: Resource, path: str) -> None:
    """A path that leads nowhere finds nothing, and it is not always told in Kubernetes' form."""
    answer = api.get(path)
    assert answer.status_code == 404
    if path.startswith(("/apis/nothing", "/apis/example.com/v2", "/apis/example.com/v1/nothing")):
        assert answer.text == "404 page not found\n"
        assert answer.headers["Content-Type"].startswith("text/plain")


def test_creation_needs_a_namespace(api: Api, resource: Resource) -> None:
    """An object of a namespaced resource cannot be created across namespaces."""
    body = resource.body("a", namespace=resource.namespace)
    assert api.create(resource.everywhere, body).status_code == 404


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_methods_that_are_not_there(api: Api, resource: Resource, method: str) -> None:
    """What can only be read and changed can be neither made nor deleted."""
    make(api, resource)
    answer = api.request(method, resource.path_to("a", "status"), {})
    refused(answer, 405, "is not supported on", reason="MethodNotAllowed")


def test_a_cluster_wide_resource(api: Api, server: Server) -> None:
    """Objects of the whole cluster have no namespace and are in no namespace."""
    server.define("example.com", "v1", "wides", kind="Wide", namespaced=False)
    resource = Resource("example.com", "v1", "wides", "Wide", namespace=None)
    with api.watching(resource.path) as seen:
        body = make(api, resource, finalizers=[A])
        assert "namespace" not in body["metadata"]
        assert seen.wait_for("ADDED", "a") == body
    assert api.get(resource.within("default").path).status_code == 404
    accepted(api.delete(resource.path_to("a")))
    accepted(api.merge_patch(resource.path_to("a"), {"metadata": {"finalizers": []}}))
    refused(api.get(resource.path_to("a")), 404, 'wides.example.com "a" not found')


def test_namespaces(api: Api) -> None:
    """The usual namespaces are there, others can be made, and their names are DNS labels."""
    path = "/api/v1/namespaces"
    names = {n["metadata"]["name"] for n in api.list(path)}
    assert {"default", "kube-system"} <= names
    with api.watching(path) as seen:
        body = accepted(api.create(path, {"metadata": {"name": "new"}}), 201)
        assert (body["apiVersion"], body["kind"]) == ("v1", "Namespace")
        assert body["status"] == {"phase": "Active"}
        assert seen.wait_for("ADDED", "new")["metadata"]["uid"] == body["metadata"]["uid"]
    answer = api.create(path, {"metadata": {"name": "new"}})
    refused(answer, 409, 'namespaces "new" already exists', reason="AlreadyExists")
    answer = api.create(path, {"metadata": {"name": "n.n"}})
    body = refused(answer, 422, 'Namespace "n.n" is invalid: metadata.name: Invalid value: "n.n"')
    assert "a lowercase RFC 1123 label must consist of" in body["message"]


def refusal_to_create(api: Api, resource: Resource) -> httpx.Response | None:
    """The refusal of an object that is made; None where there is one more now."""
    body = {**resource.body("b"), "metadata": {"generateName": "b-"}}
    answer = api.create(resource.path, body)
    return None if answer.status_code == 201 else answer


def test_a_namespace_that_is_being_deleted(api: Api, resource: Resource) -> None:
    """Nothing is created in a namespace that is being deleted, but what is there can go.

    No controller empties it, so it stays.
    """
    make(api, resource, finalizers=[A])
    path = f"/api/v1/namespaces/{resource.namespace}"
    body = accepted(api.delete(path))
    assert body["metadata"]["deletionTimestamp"]
    assert body["status"]["phase"] == "Terminating"
    # A real server hears of the deletion through a cache, so what comes next may still be taken.
    answer = wait_until(lambda: refusal_to_create(api, resource), what="creations are refused")
    words = f"unable to create new content in namespace {resource.namespace} because it is being"
    assert answer is not None
    refused(answer, 403, words, reason="Forbidden")
    accepted(api.delete(resource.path_to("a")))
    accepted(api.merge_patch(resource.path_to("a"), {"metadata": {"finalizers": []}}))
    refused(api.get(resource.path_to("a")), 404, reason="NotFound")
    accepted(api.merge_patch(path, {"metadata": {"labels": {"a": "1"}}}))
    accepted(api.get(path))


def test_events(api: Api, resource: Resource) -> None:
    """Events for an object can be posted, without a kind and with a name that the server makes."""
    path = f"/api/v1/namespaces/{resource.namespace}/events"
    time = "2026-01-01T00:00:00.000000Z"
    event = {
        "metadata": {"namespace": resource.namespace, "generateName": "some-event-"},
        "involvedObject": {"kind": "Thing", "name": "a", "namespace": resource.namespace},
        "reason": "Test",
        "message": "text",
        "type": "Normal",
        "action": "Test",
        "reportingComponent": "test",
        "reportingInstance": "test",
        "eventTime": time,
    }
    body = accepted(api.create(path, event), 201)
    assert (body["apiVersion"], body["kind"], body["message"]) == ("v1", "Event", "text")
    assert body["metadata"]["name"].startswith("some-event-")
    assert [e["metadata"]["name"] for e in api.list(path)] == [body["metadata"]["name"]]


def test_a_definition(api: Api) -> None:
    """A definition is an object like others; it serves the resource, and says when it does."""
    definition = custom_resource_definition("made.example.com", "v1", "widgets", kind="Widget")
    resource = Resource("made.example.com", "v1", "widgets", "Widget")
    path = f"{CRDS}/widgets.made.example.com"
    with api.watching(CRDS) as seen:
        body = accepted(api.create(CRDS, definition), 201)
        assert body["kind"] == "CustomResourceDefinition"
        seen.wait_for("ADDED", "widgets.made.example.com")
    wait_until(lambda: established(accepted(api.get(path))))
    wait_until(lambda: api.get(resource.everywhere).is_success)
    make(api, resource)
    answer = api.create(CRDS, definition)
    refused(answer, 409, '"widgets.made.example.com" already exists', reason="AlreadyExists")
    patch = {"metadata": {"labels": {"a": "1"}}}
    assert accepted(api.merge_patch(path, patch))["metadata"]["labels"] == {"a": "1"}


def established(definition: Body) -> bool:
    conditions = definition["status"].get("conditions") or []
    return {"Established": "True"} in [{c["type"]: c["status"]} for c in conditions]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": {"name": "other"}}, 'metadata.name: Invalid value: "other": must be'),
        ({"spec": {}}, "spec"),
    ],
)
def test_a_definition_that_does_not_fit(api: Api, change: Body, words: str) -> None:
    """A definition with another name than the resource's, or without one, is refused."""
    definition = custom_resource_definition("bad.example.com", "v1", "widgets")
    answer = api.create(CRDS, {**definition, **change})
    refused(answer, 422, words, reason="Invalid")


@pytest.mark.parametrize("own", [False, True], ids=["", "with-a-finalizer-of-its-own"])
def test_a_definition_takes_its_objects_with_it(api: Api, server: Server, own: bool) -> None:
    """The deletion of a definition deletes its objects, and waits for their finalizers."""
    group = f"{'held' if own else 'gone'}.example.com"
    server.define(group, "v1", "widgets", kind="Widget")
    resource = Resource(group, "v1", "widgets", "Widget")
    path = f"{CRDS}/widgets.{group}"
    if own:
        accepted(api.merge_patch(path, {"metadata": {"finalizers": [A]}}))
    make(api, resource, "a", finalizers=[A])
    make(api, resource, "b")
    body = accepted(api.delete(path))
    assert "customresourcecleanup.apiextensions.k8s.io" in finalizers(body)
    wait_until(lambda: api.get(resource.path_to("b")).status_code == 404)
    wait_until(lambda: "deletionTimestamp" in stored(api, resource)["metadata"])
    answer = api.create(resource.path, resource.body("c"))
    words = "create not allowed while custom resource definition is terminating"
    refused(answer, 405, words, reason="MethodNotAllowed")
    accepted(api.delete(path))
    accepted(api.merge_patch(resource.path_to("a"), {"metadata": {"finalizers": []}}))
    if own:
        wait_until(lambda: finalizers(accepted(api.get(path))) == [A])
        accepted(api.merge_patch(path, {"metadata": {"finalizers": []}}))
    wait_until(lambda: api.get(path).status_code == 404)
    wait_until(lambda: api.get(f"/apis/{group}/v1").status_code == 404)
