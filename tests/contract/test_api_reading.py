"""How clients read: selectors, pages, and the metadata of objects alone."""

import json
from typing import Any

import pytest

from ..support.answers import A, accepted, finalizers, make, refused, stored, version
from ..support.servers import Api, Body, Resource, Server, wait_until

PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def names(body: Body) -> list[str]:
    return [item["metadata"]["name"] for item in body["items"]]


def make_five(api: Api, resource: Resource) -> None:
    for number in range(5):
        labels = {"number": str(number), "odd": str(number % 2)}
        make(api, resource, f"n{number}", labels=labels)


# Selectors


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("number=1", "1"),
        ("number==1", "1"),
        (" number = 1 ", "1"),
        ("number!=1", "0234"),
        ("number in (1,2)", "12"),
        ("number in ( 1, 2 )", "12"),
        ("number in ()", ""),
        ("number notin (1,2)", "034"),
        ("other notin (1)", "01234"),
        ("odd", "01234"),
        ("other", ""),
        ("!odd", ""),
        ("!other", "01234"),
        ("other!=1", "01234"),
        ("number=1,odd=1", "1"),
        ("odd=0,number notin (0),!other", "24"),
        ("number>1", "234"),
        ("number<2", "01"),
        ("other>1", ""),
        ("number=", ""),
        ("", "01234"),
    ],
)
def test_objects_with_labels(api: Api, resource: Resource, selector: str, found: str) -> None:
    """Objects are selected by their labels: equal, one of several, there, not there, greater."""
    make_five(api, resource)
    listed = accepted(api.get(resource.path, labelSelector=selector))
    assert names(listed) == [f"n{number}" for number in found]


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("number=1,,", "found ',', expected: identifier after ','"),
        ("=", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: '=', '!=', '==', 'in', notin'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in (1", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in 1", "unable to parse requirement: "),
        ("a>b", "for 'Gt', 'Lt' operators, the value must be an integer"),
    ],
)
def test_labels_that_cannot_be_read(
    api: Api, resource: Resource, selector: str, words: str
) -> None:
    """A selector of labels that cannot be read is a bad request, with what was expected."""
    refused(api.get(resource.path, labelSelector=selector), 400, words, reason="BadRequest")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("metadata.name=n1", "1"),
        ("metadata.name==n1", "1"),
        ("metadata.name!=n1", "0234"),
        ("metadata.namespace=nowhere", ""),
        ("metadata.namespace!=nowhere,metadata.name=n2", "2"),
        ("", "01234"),
    ],
)
def test_objects_with_fields(api: Api, resource: Resource, selector: str, found: str) -> None:
    """Objects are selected by their name and namespace."""
    make_five(api, resource)
    listed = accepted(api.get(resource.path, fieldSelector=selector))
    assert names(listed) == [f"n{number}" for number in found]


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("spec.x=1", "field label not supported: spec.x"),
        ("metadata.uid=1", "field label not supported: metadata.uid"),
        ("status.phase=Active", "field label not supported: status.phase"),
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
    ],
)
def test_fields_that_do_not_select(api: Api, resource: Resource, selector: str, words: str) -> None:
    """Custom objects are selected by no other field."""
    refused(api.get(resource.path, fieldSelector=selector), 400, words, reason="BadRequest")


def test_namespaces_with_a_phase(api: Api, resource: Resource) -> None:
    """Namespaces are selected by their phase, too."""
    listed = accepted(api.get("/api/v1/namespaces", fieldSelector="status.phase=Active"))
    assert {"default", resource.namespace} <= {*names(listed)}
    none = accepted(api.get("/api/v1/namespaces", fieldSelector="status.phase=Other"))
    assert none["items"] == []


def test_events_of_an_object(api: Api, resource: Resource) -> None:
    """Events are selected by the object that they are about, as `kubectl describe` does it."""
    path = f"/api/v1/namespaces/{resource.namespace}/events"
    for name in ("a", "b"):
        involved = {"kind": "Thing", "name": name, "namespace": resource.namespace, "uid": name}
        event = {"metadata": {"name": f"e-{name}"}, "involvedObject": involved, "reason": "Test"}
        accepted(api.create(path, event), 201)
    selector = "involvedObject.name=b,involvedObject.kind=Thing,involvedObject.uid=b,reason=Test"
    assert names(accepted(api.get(path, fieldSelector=selector))) == ["e-b"]
    assert accepted(api.get(path, fieldSelector="involvedObject.uid=c"))["items"] == []


def test_a_watch_of_selected_objects(api: Api, resource: Resource) -> None:
    """What begins to be selected is added for a watcher, and what is so no more is deleted."""
    path = resource.path_to("a")
    make(api, resource, "a", labels={"on": "1"})
    make(api, resource, "b")
    start = {"resourceVersion": "0"}
    with (
        api.watching(resource.path, labelSelector="on=1", **start) as seen,
        api.watching(resource.path, fieldSelector="metadata.name=b", **start) as named,
    ):
        seen.wait_for("ADDED", "a")
        for label in ("0", "1"):
            accepted(api.merge_patch(path, {"metadata": {"labels": {"on": label}}}))
        accepted(api.merge_patch(path, {"spec": {"x": 2}}))
        accepted(api.delete(path))
        accepted(api.delete(resource.path_to("b")))
        make(api, resource, "end", labels={"on": "1"})
        seen.wait_for("ADDED", "end")
        named.wait_for("DELETED", "b")
        expected = ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
        assert seen.types("a") == expected
        assert seen.types("b") == []
        assert named.types() == ["ADDED", "DELETED"]


def test_a_deletion_of_selected_objects(api: Api, resource: Resource) -> None:
    """All objects of a collection that are selected are deleted, and told of as they were."""
    make_five(api, resource)
    make(api, resource, "held", labels={"odd": "1"}, finalizers=[A])
    listed = accepted(api.delete(resource.path, labelSelector="odd=1"))
    assert names(listed) == ["held", "n1", "n3"]
    assert "deletionTimestamp" in stored(api, resource, "held")["metadata"]
    assert names(accepted(api.get(resource.path))) == ["held", "n0", "n2", "n4"]
    accepted(api.delete(resource.path))
    assert names(accepted(api.get(resource.path))) == ["held"]
    assert finalizers(stored(api, resource, "held")) == [A]


# Pages


def test_a_list_in_pages(api: Api, resource: Resource) -> None:
    """A list comes in pages of the state that it began with, whatever happens meanwhile."""
    make_five(api, resource)
    page = accepted(api.get(resource.path, limit=2))
    first = page["metadata"]
    assert (names(page), first["remainingItemCount"]) == (["n0", "n1"], 3)
    accepted(api.delete(resource.path_to("n3")))
    accepted(api.merge_patch(resource.path_to("n2"), {"spec": {"x": 2}}))
    make(api, resource, "n21")
    page = accepted(api.get(resource.path, limit=2, **{"continue": first["continue"]}))
    assert names(page) == ["n2", "n3"]
    assert page["items"][0]["spec"] == {"x": 1}
    assert page["metadata"]["resourceVersion"] == first["resourceVersion"]
    token = {"continue": page["metadata"]["continue"]}
    page = accepted(api.get(resource.path, limit=2, **token))
    assert (names(page), page["metadata"]["continue"]) == (["n4"], "")
    assert "remainingItemCount" not in page["metadata"]
    rest = accepted(api.get(resource.path, **{"continue": first["continue"]}))
    assert names(rest) == ["n2", "n3", "n4"]
    for limit in ("0", "9"):
        whole = accepted(api.get(resource.path, limit=limit))
        assert names(whole) == ["n0", "n1", "n2", "n21", "n4"]


def test_pages_of_selected_objects(api: Api, resource: Resource) -> None:
    """A page of selected objects does not say how many more there are."""
    make_five(api, resource)
    query: Any = {"labelSelector": "odd=0", "limit": 2}
    page = accepted(api.get(resource.path, **query))
    assert names(page) == ["n0", "n2"]
    assert "remainingItemCount" not in page["metadata"]
    page = accepted(api.get(resource.path, **query, **{"continue": page["metadata"]["continue"]}))
    assert names(page) == ["n4"]


def test_pages_across_namespaces(api: Api, resource: Resource) -> None:
    """A list of all namespaces goes on in the namespace where it was."""
    make_five(api, resource)
    found, token = list[str](), ""
    while True:
        query = {"labelSelector": "number", "limit": "2", **({"continue": token} if token else {})}
        page = accepted(api.get(resource.everywhere, **query))
        found += [
            item["metadata"]["name"]
            for item in page["items"]
            if item["metadata"]["namespace"] == resource.namespace
        ]
        token = page["metadata"]["continue"]
        if not token:
            break
    assert found == ["n0", "n1", "n2", "n3", "n4"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"limit": "x"}, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ({"limit": "2", "continue": "bogus!"}, "continue key is not valid"),
        ({"limit": "2", "continue": "e30"}, "continue key is not valid"),
    ],
)
def test_pages_that_cannot_be_read(
    api: Api, resource: Resource, query: dict[str, Any], words: str
) -> None:
    """A limit that is no number, or a token that is none, is a bad request."""
    refused(api.get(resource.path, **query), 400, words, reason="BadRequest")


def test_a_page_and_a_version(api: Api, resource: Resource) -> None:
    """A list that goes on has its version already."""
    make_five(api, resource)
    token = accepted(api.get(resource.path, limit=2))["metadata"]["continue"]
    query: Any = {"continue": token, "resourceVersion": "5"}
    words = "specifying resource version is not allowed when using continue"
    refused(api.get(resource.path, **query), 400, words, reason="BadRequest")


def test_a_page_that_is_too_old(api: Api, server: Server, resource: Resource) -> None:
    """A list that began too long ago ends with 410, and a token to go on with what is there now."""
    make_five(api, resource)
    token = accepted(api.get(resource.path, limit=2))["metadata"]["continue"]
    accepted(api.delete(resource.path_to("n2")))
    server.forget_history()
    answer = api.get(resource.path, limit=2, **{"continue": token})
    words = "The provided continue parameter is too old to display a consistent list result."
    again = refused(answer, 410, words, reason="Expired")["metadata"]["continue"]
    page = accepted(api.get(resource.path, limit=2, **{"continue": again}))
    assert names(page) == ["n3", "n4"]
    assert int(page["metadata"]["resourceVersion"]) > int(version(stored(api, resource, "n4")))


# Metadata alone


def test_the_metadata_of_an_object(api: Api, resource: Resource) -> None:
    """An object can be asked for without anything but its metadata."""
    body = make(api, resource, finalizers=[A])
    found = accepted(api.get(resource.path_to("a"), accept=PARTIAL))
    assert found == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {**body["metadata"], "managedFields": found["metadata"]["managedFields"]},
    }
    patch = {"metadata": {"labels": {"a": "1"}}}
    changed = api.request(
        "PATCH",
        resource.path_to("a"),
        patch,
        content_type="application/merge-patch+json",
        accept=PARTIAL,
    )
    assert accepted(changed).keys() == {"kind", "apiVersion", "metadata"}
    refused(api.get(resource.path_to("b"), accept=PARTIAL), 404, reason="NotFound")


def test_the_metadata_of_a_list(api: Api, resource: Resource) -> None:
    """A list can be asked for with metadata alone, in pages too; an empty one has null items."""
    empty = accepted(api.get(resource.path, accept=PARTIAL_LIST))
    assert (empty["kind"], empty["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert empty["items"] is None
    assert empty["metadata"].keys() == {"resourceVersion"}
    make_five(api, resource)
    page = accepted(api.get(resource.path, accept=PARTIAL_LIST, limit=2))
    assert page["metadata"].keys() == {"resourceVersion", "continue"}
    assert [item.keys() for item in page["items"]] == [{"kind", "apiVersion", "metadata"}] * 2
    assert page["items"][0]["kind"] == "PartialObjectMetadata"
    token = page["metadata"]["continue"]
    query: Any = {"limit": 9, "continue": token}
    rest = accepted(api.get(resource.path, accept=PARTIAL_LIST, **query))
    assert names(rest) == ["n2", "n3", "n4"]
    accept = PARTIAL_LIST.replace("v=v1", "v=v1beta1")
    older = accepted(api.get(resource.path, accept=accept, limit=1))
    assert (older["apiVersion"], older["items"][0]["apiVersion"]) == ("meta.k8s.io/v1beta1",) * 2


def test_a_watch_of_metadata(api: Api, resource: Resource) -> None:
    """A watch can be asked for with metadata alone."""
    make(api, resource)
    query: Any = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": "0"}
    events = api.get(resource.path, accept=PARTIAL, **query).text.splitlines()
    found = json.loads(events[0])
    assert found["type"] == "ADDED"
    assert found["object"].keys() == {"kind", "apiVersion", "metadata"}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/xml, */*", "ThingList"),
        ("application/json", "ThingList"),
        (f"{PARTIAL_LIST};q=0.5, application/json", "ThingList"),
        (f"{PARTIAL_LIST}, application/json;q=0.5", "PartialObjectMetadataList"),
        (
            f"application/json;as=Foo;g=meta.k8s.io;v=v1, {PARTIAL_LIST}",
            "PartialObjectMetadataList",
        ),
        (f"{PARTIAL_LIST}, application/json", "PartialObjectMetadataList"),
        ("application/json;q=high", "ThingList"),
        (f"{PARTIAL_LIST};q=best, application/json;q=0.5", "ThingList"),
    ],
)
def test_the_first_form_that_can_be_had(
    api: Api, resource: Resource, accept: str, kind: str
) -> None:
    """Of several forms that would do, the best that there is is the answer."""
    assert accepted(api.get(resource.path, accept=accept))["kind"] == kind


@pytest.mark.parametrize("accept", ["text/plain", "application/json;as=Foo;g=meta.k8s.io;v=v1"])
def test_forms_that_there_are_not(api: Api, resource: Resource, accept: str) -> None:
    """A form that cannot be had is not acceptable."""
    words = "only the following media types are accepted: application/json"
    refused(api.get(resource.path, accept=accept), 406, words, reason="NotAcceptable")


def test_forms_that_do_not_fit(api: Api, resource: Resource) -> None:
    """A list has no form of an object, and an object none of a list."""
    make(api, resource)
    words = "you requested PartialObjectMetadata, but the requested object is a list"
    refused(api.get(resource.path, accept=PARTIAL), 406, words, reason="NotAcceptable")
    refused(api.get(resource.path_to("a"), accept=PARTIAL_LIST), 500, "content is not a list")


# Other kinds


def test_kinds_that_cannot_be_listed(api: Api, resource: Resource) -> None:
    """There are kinds that can only be made: discovery says so, and a list is refused."""
    listed = {r["name"]: r for r in accepted(api.get("/api/v1"))["resources"]}
    assert listed["bindings"]["verbs"] == ["create"]
    path = f"/api/v1/namespaces/{resource.namespace}/bindings"
    words = "the server does not allow this method on the requested resource"
    refused(api.get(path), 405, words, reason="MethodNotAllowed")
    refused(api.get(path, watch="true"), 405, words, reason="MethodNotAllowed")


@pytest.mark.parametrize(
    ("path", "name", "kind", "short"),
    [
        ("/api/v1", "pods", "Pod", ["po"]),
        ("/api/v1", "configmaps", "ConfigMap", ["cm"]),
        ("/api/v1", "secrets", "Secret", None),
        ("/api/v1", "services", "Service", ["svc"]),
        ("/api/v1", "persistentvolumeclaims", "PersistentVolumeClaim", ["pvc"]),
        ("/apis/apps/v1", "deployments", "Deployment", ["deploy"]),
        ("/apis/networking.k8s.io/v1beta1", "ingresses", "Ingress", ["ing"]),
        ("/apis/extensions/v1beta1", "ingresses", "Ingress", ["ing"]),
        ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", None, ["crd", "crds"]),
    ],
)
def test_discovery_of_other_kinds(
    api: Api, path: str, name: str, kind: str | None, short: list[str] | None
) -> None:
    """What is built in is discovered as on a real server."""
    found = {r["name"]: r for r in accepted(api.get(path))["resources"]}[name]
    assert found["kind"] == (kind or "CustomResourceDefinition")
    assert found["singularName"] == ""
    assert found.get("shortNames") == short
    assert {"create", "delete", "get", "list", "patch", "update", "watch"} <= {*found["verbs"]}


def test_a_watch_from_what_is_forgotten(api: Api, server: Server, resource: Resource) -> None:
    """A watch from a version that is forgotten is told so, and ends."""
    make(api, resource)
    server.forget_history()
    query: Any = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "1"}
    events = [json.loads(line) for line in api.get(resource.path, **query).text.splitlines()]
    assert [event["type"] for event in events] == ["ERROR"]
    assert (events[0]["object"]["code"], events[0]["object"]["reason"]) == (410, "Expired")
    assert "too old resource version: 1 (" in events[0]["object"]["message"]
    wait_until(lambda: api.get(resource.path).is_success)
