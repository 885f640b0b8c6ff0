"""Several served versions of a kind, and one kind in two groups: the same objects everywhere."""

from typing import Any

import pytest

from ..support.answers import (
    A,
    accepted,
    change_definition,
    finalizers,
    make,
    op,
    refused,
    stored,
    version,
)
from ..support.servers import CRDS, Api, Body, Resource, Server, wait_until

OLD = Resource("versions.example.com", "v1beta1", "olds", "Old")
NEW = Resource("versions.example.com", "v1", "olds", "Old")
INGRESS: Body = {"metadata": {"name": "a"}, "spec": {"backend": {"serviceName": "b"}}}
INGRESS["spec"]["backend"]["servicePort"] = 80
GROUPS = ("extensions", "networking.k8s.io")


@pytest.fixture(scope="module", autouse=True)
def olds(server: Server) -> None:
    """A kind of which an old version is served as well."""
    server.define("versions.example.com", "v1", "olds", kind="Old", other_versions=["v1beta1"])


@pytest.fixture
def both(resource: Resource) -> tuple[Resource, Resource]:
    """Both versions, in a namespace of the test's own."""
    return NEW.within(resource.namespace), OLD.within(resource.namespace)


def apart_from_version(body: Body) -> Body:
    return {k: v for k, v in body.items() if k != "apiVersion"}


def test_versions_have_the_same_objects(api: Api, both: tuple[Resource, Resource]) -> None:
    """What is made in one version is there in the other, and nothing but `apiVersion` differs."""
    new, old = both
    made = make(api, old, finalizers=[A])
    assert made["apiVersion"] == "versions.example.com/v1beta1"
    seen = stored(api, new)
    assert seen["apiVersion"] == "versions.example.com/v1"
    assert apart_from_version(seen) == apart_from_version(made)
    listed = accepted(api.get(new.path))
    assert listed["apiVersion"] == "versions.example.com/v1"
    assert listed["items"] == [seen]
    taken = api.create(new.path, new.body("a"))
    refused(taken, 409, 'olds.versions.example.com "a" already exists')


def test_a_change_in_either_version(api: Api, both: tuple[Resource, Resource]) -> None:
    """A change in one version is one in the other, and none where nothing else would change."""
    new, old = both
    make(api, old)
    patch = [op("test", "/apiVersion", new.api_version), op("add", "/spec/y", 2)]
    changed = accepted(api.json_patch(new.path_to("a"), patch))
    assert changed["metadata"]["generation"] == 2
    assert stored(api, old)["spec"] == {"x": 1, "y": 2}
    for resource in both:
        body = stored(api, resource)
        assert version(accepted(api.replace(resource.path_to("a"), body))) == version(body)
    accepted(api.merge_patch(old.path_to("a", "status"), {"status": {"ready": True}}))
    assert stored(api, new)["status"] == {"ready": True}


def test_an_object_says_the_version_of_its_path(api: Api, both: tuple[Resource, Resource]) -> None:
    """An object cannot be sent in one version to the path of another."""
    new, old = both
    make(api, old)
    words = "does not match the expected API version (versions.example.com/v1)"
    refused(api.create(new.path, old.body("b")), 400, words, reason="BadRequest")
    answer = api.merge_patch(old.path_to("a"), {"apiVersion": new.api_version})
    refused(answer, 422, "apiVersion: Invalid value", "must be versions.example.com/v1beta1")


def test_watches_of_both_versions(api: Api, both: tuple[Resource, Resource]) -> None:
    """A watch of each version sees every change, at the same version of the object."""
    new, old = both
    with api.watching(new.path) as seen_new, api.watching(old.path) as seen_old:
        make(api, old, finalizers=[A])
        accepted(api.delete(new.path_to("a")))
        accepted(api.merge_patch(old.path_to("a"), {"metadata": {"finalizers": None}}))
        for seen, resource in ((seen_new, new), (seen_old, old)):
            seen.wait_for("DELETED", "a")
            assert seen.types() == ["ADDED", "MODIFIED", "DELETED"]
            assert {body["apiVersion"] for _, body in seen.of("a")} == {resource.api_version}
        assert [version(body) for _, body in seen_new.of("a")] == [
            version(body) for _, body in seen_old.of("a")
        ]


def test_finalizers_belong_to_the_object(api: Api, both: tuple[Resource, Resource]) -> None:
    """A finalizer holds the object whichever version it came or goes by."""
    new, old = both
    make(api, new)
    accepted(api.apply(old.path_to("a"), old_applied(old), manager="m"))
    accepted(api.delete(new.path_to("a")))
    assert finalizers(stored(api, new)) == [A]
    patch = {"metadata": {"finalizers": None}}
    assert accepted(api.merge_patch(new.path_to("a"), patch))["apiVersion"] == new.api_version
    refused(api.get(old.path_to("a")), 404, 'olds.versions.example.com "a" not found')


def old_applied(resource: Resource) -> Body:
    metadata = {"finalizers": [A]}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}


def definition(group: str, versions: list[Body], **names: Any) -> Body:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", **names},
            "versions": versions,
        },
    }


def a_version(name: str, *, served: bool = True, storage: bool = False) -> Body:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    found: Body = {"name": name, "served": served, "storage": storage}
    return {**found, "schema": {"openAPIV3Schema": schema}}


def test_discovery_of_versions_and_names(api: Api) -> None:
    """The best version comes first, one that is not served is not there; all names are told."""
    group = "discovery.example.com"
    names = ["v1beta1", "other", "v2alpha1", "v10", "v2", "v1beta2"]
    versions = [a_version(name, storage=name == "v2") for name in names]
    body = definition(
        group,
        [*versions, a_version("v3", served=False)],
        singular="wid",
        shortNames=["w", "wi"],
        categories=["all"],
    )
    path = f"{CRDS}/widgets.{group}"
    accepted(api.create(CRDS, body), 201)
    wait_until(lambda: api.get(f"/apis/{group}/v10/widgets").is_success)
    wait_until(lambda: is_listed(api, group, len(names)))
    found = accepted(api.get(f"/apis/{group}"))
    assert [v["version"] for v in found["versions"]] == [
        *("v10", "v2", "v1beta2", "v1beta1", "v2alpha1", "other")
    ]
    assert found["preferredVersion"]["version"] == "v10"
    listed = {r["name"]: r for r in accepted(api.get(f"/apis/{group}/v1beta1"))["resources"]}
    widgets = listed["widgets"]
    assert (widgets["singularName"], widgets["kind"]) == ("wid", "Widget")
    assert (widgets["shortNames"], widgets["categories"]) == (["w", "wi"], ["all"])
    assert api.get(f"/apis/{group}/v3/widgets").status_code == 404
    status = accepted(api.get(path))["status"]
    assert status["storedVersions"] == ["v2"]
    assert status["acceptedNames"]["listKind"] == "WidgetList"
    accepted(api.delete(path))


def is_listed(api: Api, group: str, count: int) -> bool:
    answer = api.get(f"/apis/{group}")
    return answer.is_success and len(answer.json()["versions"]) == count


@pytest.mark.parametrize(
    ("versions", "names", "words"),
    [
        ([a_version("v1")], {}, "must have exactly one version marked as storage version"),
        (
            [a_version("v1", storage=True), a_version("v2", storage=True)],
            {},
            "must have exactly one version marked as storage version",
        ),
        (
            [a_version("v1", storage=True), a_version("v1")],
            {},
            "spec.versions: Invalid value",
        ),
        (
            [{**a_version("v1", storage=True), "schema": {}}],
            {},
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            [a_version("v1", storage=True)],
            {"singular": "Wid"},
            'spec.names.singular: Invalid value: "Wid": a DNS-1035 label must consist of',
        ),
        (
            [a_version("v1", storage=True)],
            {"shortNames": ["w", "W I"]},
            'spec.names.shortNames[1]: Invalid value: "W I": a DNS-1035 label must consist of',
        ),
        ([a_version("v1", storage=True)], {"kind": ""}, "spec.names.kind: Required value"),
    ],
    ids=["no-storage", "two-storages", "twice", "no-schema", "singular", "short-name", "no-kind"],
)
def test_a_bad_definition(api: Api, versions: list[Body], names: Body, words: str) -> None:
    """A definition without exactly one stored version, without a schema or with a bad name."""
    answer = api.create(CRDS, definition("bad.example.com", versions, **names))
    refused(answer, 422, words, reason="Invalid")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"scope": "Somewhere"}, 'spec.scope: Unsupported value: "Somewhere"'),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields: Invalid value: true"),
    ],
)
def test_a_bad_definition_of_another_kind(api: Api, spec: Body, words: str) -> None:
    """A definition of an unknown scope, or one that keeps fields in the old way, is refused."""
    body = definition("bad.example.com", [a_version("v1", storage=True)])
    answer = api.create(CRDS, {**body, "spec": {**body["spec"], **spec}})
    refused(answer, 422, words, reason="Invalid")


def test_a_definition_changes(api: Api, server: Server) -> None:
    """Versions come and go in a definition that is there; what was stored once cannot go."""
    group = "changing.example.com"
    server.define(group, "v1", "widgets", kind="Widget", other_versions=["v1beta1"])
    new, old = (Resource(group, v, "widgets", "Widget") for v in ("v1", "v1beta1"))
    path = f"{CRDS}/widgets.{group}"
    before = make(api, new)
    change_definition(api, old, {"served": False})
    wait_until(lambda: api.get(old.path).status_code == 404)
    assert stored(api, new) == before
    change_definition(api, old, {"served": True})
    wait_until(lambda: api.get(old.path).is_success)
    versions = [a_version("v1"), a_version("v1beta1", storage=True)]
    changed = accepted(api.merge_patch(path, {"spec": {"versions": versions}}))
    assert changed["status"]["storedVersions"] == ["v1", "v1beta1"]
    assert changed["metadata"]["generation"] == 4
    for spec, words in (
        ({"versions": versions[1:]}, 'status.storedVersions[0]: Invalid value: "v1": must appear'),
        ({"group": "o.example.com"}, "spec.group: Invalid value"),
        ({"scope": "Cluster"}, 'spec.scope: Invalid value: "Cluster": field is immutable'),
        ({"names": {"kind": "Other"}}, 'spec.names.kind: Invalid value: "Other": field is'),
        ({"names": {"plural": "others"}}, "spec.names.plural: Invalid value"),
    ):
        refused(api.merge_patch(path, {"spec": spec}), 422, words, reason="Invalid")


def test_objects_in_a_version_that_is_gone(api: Api, server: Server) -> None:
    """An object is stored anew by any update; one that is stored in a lost version is lost."""
    group = "lost.example.com"
    server.define(group, "v1", "widgets", kind="Widget", other_versions=["v1beta1"])
    new, old = (Resource(group, v, "widgets", "Widget") for v in ("v1", "v1beta1"))
    path = f"{CRDS}/widgets.{group}"
    before = make(api, new, "kept", finalizers=[A])
    make(api, new, "lost", finalizers=[A])
    versions = [a_version("v1"), a_version("v1beta1", storage=True)]
    accepted(api.merge_patch(path, {"spec": {"versions": versions}}))
    unchanged = {"spec": {"x": 1}}
    wait_until(lambda: is_stored_anew(api, new, before, unchanged), what="stored anew")
    accepted(api.merge_patch(f"{path}/status", {"status": {"storedVersions": ["v1beta1"]}}))
    accepted(api.merge_patch(path, {"spec": {"versions": versions[1:]}}))
    wait_until(lambda: api.get(new.path).status_code == 404)
    assert stored(api, old, "kept")["spec"] == {"x": 1}
    wait_until(lambda: api.get(old.path_to("lost")).status_code == 500)
    words = "request to convert CR from an invalid group/version: lost.example.com/v1"
    for answer in (
        api.get(old.path_to("lost")),
        api.get(old.path),
        api.merge_patch(old.path_to("lost"), {}),
        api.delete(old.path_to("lost")),
    ):
        refused(answer, 500, words)
    accepted(api.merge_patch(path, {"spec": {"versions": versions}}))
    wait_until(lambda: api.get(old.path).is_success, what="found again")


def is_stored_anew(api: Api, resource: Resource, before: Body, patch: Body) -> bool:
    return version(accepted(api.merge_patch(resource.path_to("kept"), patch))) != version(before)


def test_watches_end_when_a_definition_changes(api: Api, server: Server) -> None:
    """Open watches end when the definition changes: clients list and watch anew."""
    group = "watched.example.com"
    server.define(group, "v1", "widgets", kind="Widget")
    resource = Resource(group, "v1", "widgets", "Widget")
    query: Body = {"watch": "true", "resourceVersion": version(make(api, resource))}
    with api.client.stream("GET", resource.path, params=query) as response:
        column = {"name": "X", "type": "integer", "jsonPath": ".spec.x"}
        change_definition(api, resource, {"additionalPrinterColumns": [column]})
        # That it ends at all is what is asserted here: it has no timeout.
        assert list(response.iter_lines()) == []


def test_a_terminating_definition_offers_less(api: Api, server: Server) -> None:
    """While a definition is being deleted, nothing is created or patched by discovery."""
    group = "going.example.com"
    server.define(group, "v1", "widgets", kind="Widget")
    resource = Resource(group, "v1", "widgets", "Widget")
    make(api, resource, finalizers=[A])
    accepted(api.delete(f"{CRDS}/widgets.{group}"))

    def verbs() -> set[str]:
        listed = accepted(api.get(f"/apis/{group}/v1"))["resources"]
        return {verb for r in listed if r["name"] == "widgets" for verb in r["verbs"]}

    wait_until(lambda: not verbs() & {"create", "patch", "update"})
    assert {"get", "list", "watch", "delete"} <= verbs()
    patch = {"metadata": {"finalizers": None}}
    accepted(api.merge_patch(resource.path_to("a"), patch))
    wait_until(lambda: api.get(resource.path).status_code == 404)


def test_one_kind_in_two_groups(api: Api, resource: Resource) -> None:
    """Ingresses are served in two groups: the same objects, each group in its own words."""
    extensions, networking = (
        Resource(group, "v1beta1", "ingresses", "Ingress", resource.namespace) for group in GROUPS
    )
    with api.watching(extensions.path) as seen_one, api.watching(networking.path) as seen_other:
        made = accepted(api.create(extensions.path, INGRESS), 201)
        patch = {"metadata": {"finalizers": [A]}}
        accepted(api.merge_patch(networking.path_to("a"), patch))
        deleted = accepted(api.delete(extensions.path_to("a")))
        assert deleted["metadata"]["uid"] == made["metadata"]["uid"]
        words = 'ingresses.networking.k8s.io "b" not found'
        refused(api.get(networking.path_to("b")), 404, words)
        patch = {"metadata": {"finalizers": []}}
        accepted(api.merge_patch(networking.path_to("a"), patch))
        for seen, one in ((seen_one, extensions), (seen_other, networking)):
            seen.wait_for("DELETED", "a")
            assert {body["apiVersion"] for _, body in seen.of("a")} == {one.api_version}
            assert {body["metadata"]["uid"] for _, body in seen.of("a")} == {
                made["metadata"]["uid"]
            }
