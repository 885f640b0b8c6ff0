"""What an API server makes of an object: its version, generation, identity, and its creation."""

import re

import pytest

from ..support.answers import (
    LIST,
    A,
    accepted,
    causes,
    finalizers,
    make,
    op,
    refused,
    stored,
    version,
)
from ..support.servers import Api, Body, Resource

# Versions, generations, identity


def test_versions_grow_with_every_change(api: Api, resource: Resource) -> None:
    """Every change gives the object a greater version than anything on the server had before."""
    first = make(api, resource, "a")
    second = make(api, resource, "b")
    changed = accepted(api.merge_patch(resource.path_to("a"), {"spec": {"x": 2}}))
    assert int(version(first)) < int(version(second)) < int(version(changed))


def test_a_patch_that_changes_nothing_is_no_change(api: Api, resource: Resource) -> None:
    """A patch or an update that changes nothing leaves the version, and watchers hear nothing."""
    before = make(api, resource, finalizers=[A])
    with api.watching(resource.path) as seen:
        for answer in (
            api.merge_patch(resource.path_to("a"), {"metadata": {"finalizers": [A]}}),
            api.merge_patch(resource.path_to("a"), {}),
            api.json_patch(resource.path_to("a"), [op("test", LIST, [A])]),
            api.replace(resource.path_to("a"), before),
        ):
            assert accepted(answer) == before
        make(api, resource, "b")
        seen.wait_for("ADDED", "b")
        assert seen.types("a") == []


def test_generation_counts_changes_of_content(api: Api, resource: Resource) -> None:
    """The generation counts changes of everything but metadata and the status."""
    path = resource.path_to("a")
    assert make(api, resource)["metadata"]["generation"] == 1
    changes: list[tuple[Body, int]] = [
        ({"metadata": {"labels": {"a": "1"}, "finalizers": [A]}}, 1),
        ({"metadata": {"generation": 77}}, 1),
        ({"spec": {"x": 2}}, 2),
        ({"other": 1}, 3),
        ({"status": {"a": 1}}, 3),
    ]
    for patch, expected in changes:
        body = accepted(api.merge_patch(path, patch))
        assert body["metadata"]["generation"] == expected, patch
    body = accepted(api.merge_patch(f"{path}/status", {"status": {"a": 1}}))
    assert body["metadata"]["generation"] == 3
    body = accepted(api.delete(path))
    assert body["metadata"]["generation"] == 4, "the deletion counts, too"
    body = accepted(api.delete(path))
    assert body["metadata"]["generation"] == 4


@pytest.mark.parametrize("subresource", [None, "status"])
def test_a_stale_version_is_a_conflict(
    api: Api, resource: Resource, subresource: str | None
) -> None:
    """A patch or an update that is based on an older version is a conflict."""
    old = make(api, resource)
    new = accepted(api.merge_patch(resource.path_to("a"), {"spec": {"x": 2}}))
    path = resource.path_to("a", subresource)
    lock: Body = {"metadata": {"resourceVersion": version(old)}, "status": {"a": 1}}
    words = (
        'Operation cannot be fulfilled on things.example.com "a": the object has been modified;'
        " please apply your changes to the latest version and try again"
    )
    refused(api.merge_patch(path, lock), 409, words, reason="Conflict")
    patch = [op("replace", "/metadata/resourceVersion", version(old))]
    refused(api.json_patch(path, patch), 409, words, reason="Conflict")
    refused(api.replace(path, old), 409, words, reason="Conflict")
    assert stored(api, resource) == new
    lock["metadata"]["resourceVersion"] = version(new)
    accepted(api.merge_patch(path, lock))


def test_an_update_needs_a_version(api: Api, resource: Resource) -> None:
    """An update must say what it is based on, and a patch cannot take the version away."""
    body = make(api, resource)
    del body["metadata"]["resourceVersion"]
    for answer in (
        api.replace(resource.path_to("a"), body),
        api.merge_patch(resource.path_to("a"), {"metadata": {"resourceVersion": None}}),
    ):
        words = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
        details = refused(answer, 422, words, reason="Invalid")["details"]
        assert (details["name"], details["kind"]) == ("a", "things")


def test_a_version_is_a_number(api: Api, resource: Resource) -> None:
    """A version that cannot be one is an error of the server, by its own word."""
    make(api, resource)
    patch = {"metadata": {"resourceVersion": "text"}}
    refused(api.merge_patch(resource.path_to("a"), patch), 500, '"text": invalid syntax')
    refused(api.get(resource.path, watch="1", resourceVersion="text"), 500, "invalid syntax")


def test_a_wrong_uid_is_invalid_in_a_patch(api: Api, resource: Resource) -> None:
    """A merge patch with another object's uid is refused: the field is immutable."""
    before = make(api, resource)
    answer = api.merge_patch(resource.path_to("a"), {"metadata": {"uid": "wrong"}})
    words = 'metadata.uid: Invalid value: "wrong": field is immutable'
    assert causes(refused(answer, 422, words)) == {("metadata.uid", "FieldValueInvalid")}
    assert stored(api, resource) == before


def test_a_stale_version_comes_before_a_wrong_uid(api: Api, resource: Resource) -> None:
    """A merge patch with another object's uid and version is a conflict first of all."""
    make(api, resource)
    patch = {"metadata": {"uid": "wrong", "resourceVersion": "1"}}
    refused(api.merge_patch(resource.path_to("a"), patch), 409, reason="Conflict")


def test_a_wrong_uid_is_a_conflict_in_an_update(api: Api, resource: Resource) -> None:
    """An update with another object's uid is a conflict, before anything else is."""
    body = make(api, resource)
    uid = body["metadata"]["uid"]
    body["metadata"] |= {"uid": "wrong", "resourceVersion": "1"}
    words = f"Precondition failed: UID in precondition: wrong, UID in object meta: {uid}"
    refused(api.replace(resource.path_to("a"), body), 409, words, reason="Conflict")
    body["metadata"]["name"] = "b"
    answer = api.replace(resource.path_to("b"), body)
    refused(answer, 409, "UID in precondition: wrong, UID in object meta: ", reason="Conflict")


def test_an_update_replaces_all_but_what_is_settled(api: Api, resource: Resource) -> None:
    """An update replaces the object, but for what only the server decides."""
    before = make(api, resource, labels={"a": "1"})
    body = resource.body("a", spec={"y": 1}, finalizers=[A], resourceVersion=version(before))
    body["metadata"] |= {"creationTimestamp": "2020-01-01T00:00:00Z", "unknown": 1}
    after = accepted(api.replace(resource.path_to("a"), body))
    assert after["spec"] == {"y": 1}
    assert finalizers(after) == [A]
    assert "labels" not in after["metadata"]
    assert "unknown" not in after["metadata"]
    for settled in ("uid", "creationTimestamp", "namespace"):
        assert after["metadata"][settled] == before["metadata"][settled]


def test_an_update_of_what_is_not_there(api: Api, resource: Resource) -> None:
    """An update makes no object: it finds none."""
    answer = api.replace(resource.path_to("a"), resource.body("a"))
    refused(answer, 404, 'things.example.com "a" not found', reason="NotFound")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"name": "b"}, "the name of the object (b) does not match the name on the URL (a)"),
        ({"name": None}, "the name of the object (a based on URL) was undeterminable"),
        ({"namespace": "b"}, "the namespace of the object (b) does not match the namespace on the"),
    ],
)
def test_an_object_is_what_its_path_says(
    api: Api, resource: Resource, metadata: Body, words: str
) -> None:
    """A name or a namespace that is not that of the path is a bad request."""
    before = make(api, resource)
    changed = {**before, "metadata": {**before["metadata"], **metadata}}
    patch = {"metadata": metadata}
    for subresource in (None, "status"):
        path = resource.path_to("a", subresource)
        refused(api.merge_patch(path, patch), 400, words, reason="BadRequest")
        refused(api.replace(path, changed), 400, words, reason="BadRequest")
    assert stored(api, resource) == before


@pytest.mark.parametrize("field", ["kind", "apiVersion"])
def test_an_object_stays_of_its_kind(api: Api, resource: Resource, field: str) -> None:
    """Neither a patch nor an update makes another kind of an object."""
    before = make(api, resource)
    value = "Other" if field == "kind" else "example.com/v2"
    answer = api.merge_patch(resource.path_to("a"), {field: value})
    words = f'{field}: Invalid value: "{value}": must be {before[field]}'
    assert causes(refused(answer, 422, words)) == {(field, "FieldValueInvalid")}
    answer = api.replace(resource.path_to("a"), {**before, field: value})
    if field == "kind":
        refused(answer, 422, words, reason="Invalid")
    else:
        words = "the API version in the data (example.com/v2) does not match the expected"
        refused(answer, 400, words, reason="BadRequest")
    assert stored(api, resource) == before


def test_an_object_has_a_kind(api: Api, resource: Resource) -> None:
    """An object without a kind is refused: as invalid in a patch, as a bad request otherwise."""
    body = make(api, resource)
    answer = api.merge_patch(resource.path_to("a"), {"kind": None})
    refused(answer, 422, "patch: Invalid value: ", "Object 'Kind' is missing", reason="Invalid")
    del body["kind"]
    answer = api.replace(resource.path_to("a"), body)
    refused(answer, 400, "is missing", reason="BadRequest")
    refused(api.create(resource.path, body), 400, "is missing", reason="BadRequest")


# Creation


def test_a_new_object(api: Api, resource: Resource) -> None:
    """A new object gets what the server decides, and keeps nothing of what it cannot have."""
    body = resource.body(
        "a",
        spec={"x": 1},
        uid="mine",
        generation=7,
        creationTimestamp="2020-01-01T00:00:00Z",
        deletionTimestamp="2020-01-01T00:00:00Z",
        deletionGracePeriodSeconds=5,
        labels={},
        unknown=1,
    )
    created = accepted(api.create(resource.path, {**body, "status": {"a": 1}}), 201)
    assert created == stored(api, resource)
    assert created["spec"] == {"x": 1}
    assert "status" not in created, "it has a way of its own"
    metadata = created["metadata"]
    assert metadata["name"] == "a"
    assert metadata["namespace"] == resource.namespace
    assert metadata["generation"] == 1
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", metadata["uid"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert not metadata["creationTimestamp"].startswith("2020-")
    gone = {"deletionTimestamp", "deletionGracePeriodSeconds", "labels", "unknown"}
    assert not gone & metadata.keys()


def test_a_name_is_taken_once(api: Api, resource: Resource) -> None:
    """A name that is taken is refused, in other words while the object is being deleted."""
    make(api, resource, finalizers=[A])
    words = 'things.example.com "a" already exists'
    for message in (words, f"object is being deleted: {words}"):
        answer = api.create(resource.path, resource.body("a"))
        body = refused(answer, 409, message, reason="AlreadyExists")
        assert body["message"] == message
        assert body["details"] == {"name": "a", "group": "example.com", "kind": "things"}
        accepted(api.delete(resource.path_to("a")))


def test_a_name_can_be_made(api: Api, resource: Resource) -> None:
    """A name is made of the prefix that is asked for and five more characters, of 63 at most."""
    body = resource.body("")
    names = set()
    for prefix, kept in (("some-", "some-"), ("some-", "some-"), ("x" * 70, "x" * 58)):
        body["metadata"] = {"generateName": prefix}
        created = accepted(api.create(resource.path, body), 201)
        name = created["metadata"]["name"]
        assert re.fullmatch(f"{kept}[a-z0-9]{{5}}", name)
        assert created["metadata"]["generateName"] == prefix
        names.add(name)
    assert len(names) == 3
    body["metadata"] = {"generateName": "some-", "name": "mine"}
    assert accepted(api.create(resource.path, body), 201)["metadata"]["name"] == "mine"


@pytest.mark.parametrize("metadata", [None, {}, {"name": ""}], ids=["null", "empty", "empty-name"])
def test_an_object_needs_a_name(api: Api, resource: Resource, metadata: object) -> None:
    """An object without a name is refused."""
    answer = api.create(resource.path, {**resource.body(""), "metadata": metadata})
    words = "metadata.name: Required value: name or generateName is required"
    body = refused(answer, 422, f'Thing.example.com "" is invalid: {words}', reason="Invalid")
    assert causes(body) == {("metadata.name", "FieldValueRequired")}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A_b", "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric"),
        ("a" * 254, "must be no more than 253 characters"),
    ],
)
def test_a_name_of_an_object(api: Api, resource: Resource, name: str, words: str) -> None:
    """A name that is no DNS subdomain is refused."""
    body = refused(api.create(resource.path, resource.body(name)), 422, words, reason="Invalid")
    assert causes(body) == {("metadata.name", "FieldValueInvalid")}
    assert body["details"]["name"] == name


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"kind": "Other"}, 422, 'kind: Invalid value: "Other": must be Thing'),
        ({"apiVersion": "example.com/v2"}, 400, "the API version in the data (example.com/v2)"),
        ({"metadata": {"name": "a", "namespace": "other"}}, 400, "the namespace of the provided"),
        ({"metadata": {"name": "a", "resourceVersion": "1"}}, 500, "resourceVersion should not be"),
        ({"metadata": "text"}, 400, "cannot be handled as a Thing"),
    ],
)
def test_an_object_that_does_not_fit(
    api: Api, resource: Resource, change: Body, status: int, words: str
) -> None:
    """An object of another kind, namespace or version than where it is sent is refused."""
    answer = api.create(resource.path, {**resource.body("a"), **change})
    refused(answer, status, words)
    assert api.get(resource.path_to("a")).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[1]", b""], ids=["no-json", "no-object", "nothing"])
def test_an_object_that_cannot_be_read(api: Api, resource: Resource, body: bytes) -> None:
    """What is no object is a bad request."""
    answer = api.request("POST", resource.path, body)
    refused(answer, 400, "the object provided is unrecognized", reason="BadRequest")


def test_an_object_in_another_format(api: Api, resource: Resource) -> None:
    """An object in an unknown format is refused."""
    answer = api.request("POST", resource.path, resource.body("a"), content_type="text/plain")
    refused(answer, 415, "application/json", reason="UnsupportedMediaType")


def test_a_request_that_is_too_large(api: Api, resource: Resource) -> None:
    """A request of more than 3 MiB is refused."""
    answer = api.create(resource.path, resource.body("a", spec={"x": "y" * 3 * 1024 * 1024}))
    words = "Request entity too large: limit is 3145728"
    refused(answer, 413, words, reason="RequestEntityTooLarge")


def test_a_namespace_that_is_not_there(api: Api, resource: Resource) -> None:
    """Nothing is created in a namespace that is not there, but one can look."""
    nowhere = resource.within("nowhere")
    answer = api.create(nowhere.path, nowhere.body("a"))
    body = refused(answer, 404, 'namespaces "nowhere" not found', reason="NotFound")
    assert body["details"] == {"name": "nowhere", "kind": "namespaces"}
    assert api.list(nowhere.path) == []
    refused(api.get(nowhere.path_to("a")), 404, 'things.example.com "a" not found')
