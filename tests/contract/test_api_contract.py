"""What an API server answers, on the in-process server and on a real kube-apiserver alike.

The in-process server is only worth as much as these tests: whatever it does is written down here,
and was first seen on the real one.
"""

import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kopf_finalizers.testing._catalogue import custom_resource_definition

from ..support.servers import (
    CRDS,
    JSON_PATCH,
    MERGE_PATCH,
    Api,
    Body,
    Resource,
    Server,
    wait_until,
)

A, B, C = "a.example.com/f", "b.example.com/f", "c.example.com/f"
LIST = "/metadata/finalizers"
REJECTED = "the server rejected our request due to an error in our request"
NAME_RULE = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with"
PREFIX_RULE = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric"
DELETING = (
    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted,"
    " found new finalizers []string"
)


def make(api: Api, resource: Resource, name: str = "a", **metadata: Any) -> Body:
    """Create an object."""
    body = resource.body(name, spec={"x": 1}, **metadata)
    created: Body = api.create(resource.path, body).raise_for_status().json()
    return created


def stored(api: Api, resource: Resource, name: str = "a") -> Body:
    """The object as it is now."""
    body: Body = api.get(resource.path_to(name)).raise_for_status().json()
    return body


def finalizers(body: Body) -> list[str]:
    return body["metadata"].get("finalizers") or []


def version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])


def accepted(answer: httpx.Response, status: int = 200) -> Body:
    """The body of an answer that has to be a success."""
    assert answer.status_code == status, answer.text
    body: Body = answer.json()
    return body


def refused(answer: httpx.Response, status: int, *words: str, reason: str = "") -> Body:
    """The body of an answer that has to be a refusal in Kubernetes' form, with these words."""
    assert answer.status_code == status, answer.text
    body: Body = answer.json()
    assert body["kind"] == "Status"
    assert body["apiVersion"] == "v1"
    assert body["status"] == "Failure"
    assert body["code"] == status
    assert reason in ("", body.get("reason"))
    for word in words:
        assert word in body["message"]
    return body


def causes(body: Body) -> set[tuple[str, str]]:
    """What is wrong with which field: the real server names some of it more than once."""
    return {(c["field"], c["reason"]) for c in body["details"]["causes"]}


def op(name: str, path: str, value: Any = ...) -> Body:
    """An operation of a JSON Patch."""
    return {"op": name, "path": path, **({} if value is ... else {"value": value})}


# JSON Patch


def test_json_patch_adds_the_list_where_there_is_none(api: Api, resource: Resource) -> None:
    """A test for null passes, and the list is added, if the object has no finalizers."""
    make(api, resource)
    patch = [op("test", LIST, None), op("add", LIST, [A])]
    assert finalizers(accepted(api.json_patch(resource.path_to("a"), patch))) == [A]
    assert finalizers(stored(api, resource)) == [A]


@pytest.mark.parametrize(
    ("present", "patch", "expected"),
    [
        pytest.param([A], [op("add", f"{LIST}/-", B)], [A, B], id="append"),
        pytest.param([A], [op("add", f"{LIST}/1", B)], [A, B], id="add-at-the-end"),
        pytest.param([A], [op("add", f"{LIST}/0", B)], [B, A], id="add-at-the-start"),
        pytest.param([A], [op("add", f"{LIST}/-", A)], [A, A], id="duplicate"),
        pytest.param(
            [A, B], [op("test", f"{LIST}/1", B), op("remove", f"{LIST}/1")], [A], id="remove-one"
        ),
        pytest.param([A], [op("test", LIST, [A]), op("remove", LIST)], [], id="remove-the-list"),
        pytest.param([A], [op("remove", f"{LIST}/0")], [], id="remove-the-last"),
        pytest.param([A], [op("replace", LIST, [C])], [C], id="replace"),
        pytest.param([A], [], [A], id="nothing"),
    ],
)
def test_json_patch_changes_the_list(
    api: Api, resource: Resource, present: list[str], patch: list[Body], expected: list[str]
) -> None:
    """A JSON Patch whose tests hold changes exactly the entries it names."""
    make(api, resource, finalizers=present)
    assert finalizers(accepted(api.json_patch(resource.path_to("a"), patch))) == expected
    assert finalizers(stored(api, resource)) == expected


@pytest.mark.parametrize(
    ("present", "patch"),
    [
        pytest.param([A], [op("test", LIST, None)], id="list-is-not-null"),
        pytest.param([], [op("add", f"{LIST}/-", A)], id="append-to-no-list"),
        pytest.param([], [op("remove", f"{LIST}/0")], id="remove-from-no-list"),
        pytest.param([], [op("test", f"{LIST}/0", None)], id="test-in-no-list"),
        pytest.param([A], [op("test", f"{LIST}/0", B)], id="wrong-value"),
        pytest.param([A], [op("test", f"{LIST}/1", A)], id="test-out-of-range"),
        pytest.param([A], [op("remove", f"{LIST}/1")], id="remove-out-of-range"),
        pytest.param([A], [op("add", f"{LIST}/2", B)], id="add-out-of-range"),
        pytest.param([A], [op("remove", f"{LIST}/x")], id="not-an-index"),
        pytest.param([A], [op("remove", f"{LIST}/-")], id="remove-past-the-end"),
        pytest.param([A, B], [op("test", LIST, [B, A])], id="other-order"),
        pytest.param([], [op("test", "/metadata/uid", "wrong")], id="wrong-uid"),
        pytest.param([], [op("test", "/metadata/resourceVersion", "1")], id="stale-version"),
        pytest.param([], [op("test", "/spec/x", 1.0)], id="whole-number-and-fraction"),
        pytest.param([], [op("test", "/spec/x", True)], id="number-and-truth"),
        pytest.param([], [op("test", "/spec/x")], id="test-without-a-value"),
        pytest.param([], [op("test", "/spec/no/thing", None)], id="test-too-deep"),
        pytest.param([], [op("test", "/spec/nothing", 1)], id="test-of-nothing"),
        pytest.param([], [op("add", "/spec/no/thing", 1)], id="add-too-deep"),
        pytest.param([], [op("replace", "", {})], id="whole-object"),
        pytest.param([], [op("unknown", "/spec/x")], id="unknown-operation"),
        pytest.param([], [{"path": "/spec/x"}], id="no-operation"),
        pytest.param([], [{"op": "remove"}], id="no-path"),
        pytest.param([], [op("remove", "spec/x")], id="not-a-path"),
    ],
)
def test_json_patch_that_does_not_fit_is_refused(
    api: Api, resource: Resource, present: list[str], patch: list[Body]
) -> None:
    """A JSON Patch that does not fit the object is refused as a whole, without a word of why."""
    before = make(api, resource, finalizers=present)
    patch = [op("add", "/spec/first", 1), *patch]
    refused(api.json_patch(resource.path_to("a"), patch), 422, REJECTED, reason="Invalid")
    assert stored(api, resource) == before


def test_json_patch_knows_all_operations(api: Api, resource: Resource) -> None:
    """A JSON Patch moves and copies too, and each operation sees what those before it did."""
    make(api, resource)
    patch = [
        {"op": "move", "from": "/spec/x", "path": "/spec/y"},
        {"op": "copy", "from": "/spec/y", "path": "/spec/z"},
        op("test", "/spec", {"z": 1, "y": 1}),
    ]
    assert accepted(api.json_patch(resource.path_to("a"), patch))["spec"] == {"y": 1, "z": 1}


@pytest.mark.parametrize("body", [{"op": "remove"}, [1], b"{"], ids=["no-list", "no-op", "no-json"])
def test_json_patch_that_cannot_be_read(api: Api, resource: Resource, body: object) -> None:
    """What is not a list of operations is a bad request."""
    make(api, resource)
    answer = api.request("PATCH", resource.path_to("a"), body, content_type=JSON_PATCH)
    refused(answer, 400, reason="BadRequest")


# Merge patch


def test_merge_patch_replaces_the_whole_list(api: Api, resource: Resource) -> None:
    """A merge patch of finalizers replaces the whole list: others' entries are lost."""
    make(api, resource, finalizers=[A, B])
    patch = {"metadata": {"finalizers": [C]}}
    assert finalizers(accepted(api.merge_patch(resource.path_to("a"), patch))) == [C]


@pytest.mark.parametrize("value", [None, []], ids=["null", "empty"])
def test_no_finalizers_is_no_field(api: Api, resource: Resource, value: object) -> None:
    """An object without finalizers has no such field, however the last one went."""
    make(api, resource, finalizers=[A])
    patch = {"metadata": {"finalizers": value}}
    accepted(api.merge_patch(resource.path_to("a"), patch))
    assert "finalizers" not in stored(api, resource)["metadata"]


def test_duplicates_are_kept(api: Api, resource: Resource) -> None:
    """The same finalizer twice in the list is kept twice: nothing removes duplicates."""
    make(api, resource, finalizers=[A, B, A])
    assert finalizers(stored(api, resource)) == [A, B, A]


def test_merge_patch_merges_objects_and_removes_nulls(api: Api, resource: Resource) -> None:
    """A merge patch changes the fields that it has, removes those that are null, leaves others."""
    make(api, resource, labels={"a": "1", "b": "2"}, annotations={"only": "1"})
    patch = {
        "metadata": {"labels": {"a": None, "c": "3"}, "annotations": {"only": None}},
        "spec": {"y": {"z": [1, {"deep": None}]}},
    }
    body = accepted(api.merge_patch(resource.path_to("a"), {**patch, "spec": {"y": {"z": [1]}}}))
    assert body["metadata"]["labels"] == {"b": "2", "c": "3"}
    assert "annotations" not in body["metadata"]
    assert body["spec"] == {"x": 1, "y": {"z": [1]}}
    body = accepted(api.merge_patch(resource.path_to("a"), {"spec": {"x": {"y": 1}, "y": None}}))
    assert body["spec"] == {"x": {"y": 1}}


def test_merge_patch_that_is_a_list(api: Api, resource: Resource) -> None:
    """A merge patch may not put something else in the place of the object."""
    make(api, resource)
    answer = api.request("PATCH", resource.path_to("a"), [1], content_type=MERGE_PATCH)
    refused(answer, 422, ' "" is invalid: patch: Invalid value: ', reason="Invalid")


@pytest.mark.parametrize("content", [b"{", b"1"], ids=["no-json", "number"])
def test_merge_patch_that_cannot_be_read(api: Api, resource: Resource, content: bytes) -> None:
    """A merge patch that cannot be read is an error of the server, by its own word."""
    make(api, resource)
    answer = api.request("PATCH", resource.path_to("a"), content, content_type=MERGE_PATCH)
    refused(answer, 500, "Invalid JSON Patch")


@pytest.mark.parametrize(
    "metadata",
    [
        {"finalizers": "text"},
        {"finalizers": [1]},
        {"labels": {"a": 1}},
        {"annotations": {"a": 1}},
        {"annotations": "text"},
        {"uid": 1},
        {"deletionTimestamp": "now"},
        {"deletionTimestamp": 1},
    ],
    ids=repr,
)
def test_metadata_of_a_wrong_type(api: Api, resource: Resource, metadata: Body) -> None:
    """Metadata of a wrong type is refused: as invalid in a patch, as a bad request in an object."""
    before = make(api, resource)
    answer = api.merge_patch(resource.path_to("a"), {"metadata": metadata})
    assert causes(refused(answer, 422, reason="Invalid")) == {("patch", "FieldValueInvalid")}
    answer = api.create(resource.path, resource.body("b", **metadata))
    refused(answer, 400, "cannot be handled as a Thing", reason="BadRequest")
    answer = api.replace(resource.path_to("a"), resource.body("a", **metadata))
    refused(answer, 400, "cannot be handled as a Thing", reason="BadRequest")
    assert stored(api, resource) == before


@pytest.mark.parametrize(
    "content_type",
    ["application/strategic-merge-patch+json", "application/json", "text/plain"],
)
def test_other_kinds_of_patches(api: Api, resource: Resource, content_type: str) -> None:
    """Custom objects take three kinds of patches, and other kinds are refused, even for nothing."""
    make(api, resource)
    for name in ("a", "not-there"):
        answer = api.request("PATCH", resource.path_to(name), {}, content_type=content_type)
        words = "application/json-patch+json, application/merge-patch+json"
        refused(answer, 415, words, reason="UnsupportedMediaType")


def test_parameters_of_a_content_type(api: Api, resource: Resource) -> None:
    """A content type may have parameters."""
    make(api, resource)
    content_type = f"{MERGE_PATCH}; charset=utf-8"
    patch = {"spec": {"x": 2}}
    answer = api.request("PATCH", resource.path_to("a"), patch, content_type=content_type)
    assert accepted(answer)["spec"] == {"x": 2}


def test_force_is_for_apply_only(api: Api, resource: Resource) -> None:
    """Other patches than apply cannot be forced."""
    make(api, resource)
    answer = api.merge_patch(resource.path_to("a"), {}, force="true")
    words = 'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified'
    assert causes(refused(answer, 422, words)) == {("force", "FieldValueForbidden")}


@pytest.mark.parametrize("patch", ["json", "merge", "unreadable"])
def test_patch_of_what_is_not_there(api: Api, resource: Resource, patch: str) -> None:
    """A patch of an object that is gone finds nothing, whatever the patch is."""
    path = resource.path_to("a")
    if patch == "json":
        answer = api.json_patch(path, [op("test", "/metadata/uid", "wrong")])
    elif patch == "merge":
        answer = api.merge_patch(path, {})
    else:
        answer = api.request("PATCH", path, b"{", content_type=MERGE_PATCH)
    refused(answer, 404, 'things.example.com "a" not found', reason="NotFound")


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


# Names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a b", [f"name part {NAME_RULE}"]),
        ("a.com/f g", [f"name part {NAME_RULE}"]),
        ("a.com/-f", [f"name part {NAME_RULE}"]),
        ("a.com/f\n", [f"name part {NAME_RULE}"]),
        ("a.com/fé", [f"name part {NAME_RULE}"]),
        ("a.com/", ["name part must be non-empty", f"name part {NAME_RULE}"]),
        ("", ["name part must be non-empty", f"name part {NAME_RULE}"]),
        ("a.com/" + "f" * 64, ["name part must be no more than 63 characters"]),
        ("/f", ["prefix part must be non-empty"]),
        ("MyCompany.com/f", [PREFIX_RULE]),
        ("my_company.com/f", [PREFIX_RULE]),
        ("a" * 254 + "/f", ["prefix part must be no more than 253 characters"]),
        ("a.com/f/g", [f"a qualified name {NAME_RULE}"]),
    ],
)
def test_a_finalizer_is_a_qualified_name(
    api: Api, resource: Resource, name: str, words: list[str]
) -> None:
    """A finalizer that is no qualified name is refused, with every rule that it breaks."""
    before = make(api, resource)
    shown = name.replace("\n", "\\n")
    for answer in (
        api.merge_patch(resource.path_to("a"), {"metadata": {"finalizers": [A, name]}}),
        api.create(resource.path, resource.body("b", finalizers=[A, name])),
    ):
        body = refused(answer, 422, *words, f'metadata.finalizers: Invalid value: "{shown}": ')
        assert causes(body) == {("metadata.finalizers", "FieldValueInvalid")}
        assert len({c["message"] for c in body["details"]["causes"]}) == len(words)
    assert stored(api, resource) == before


@pytest.mark.parametrize(
    "name", ["my-finalizer", "operator/finalizer", "a.com/F_i.n", "a" * 253 + "/" + "f" * 63]
)
def test_a_finalizer_that_is_a_qualified_name(api: Api, resource: Resource, name: str) -> None:
    """A finalizer needs no domain, and it may be as long as the rule allows."""
    assert finalizers(make(api, resource, finalizers=[name])) == [name]


def test_finalizers_of_the_garbage_collector(api: Api, resource: Resource) -> None:
    """An object cannot have both finalizers of the garbage collector."""
    both = ["orphan", "foregroundDeletion"]
    answer = api.create(resource.path, resource.body("a", finalizers=both))
    refused(answer, 422, "finalizer orphan and foregroundDeletion cannot be both set")


@pytest.mark.parametrize(
    ("metadata", "field", "words"),
    [
        ({"annotations": {"a b/c d": "1"}}, "annotations", [PREFIX_RULE, f"part {NAME_RULE}"]),
        ({"annotations": {"a.com/" + "a" * 64: ""}}, "annotations", ["no more than 63 characters"]),
        ({"labels": {"A.com/a": "1"}}, "labels", [PREFIX_RULE]),
        ({"labels": {"a": "a b"}}, "labels", ["a valid label must be an empty string or consist"]),
        ({"labels": {"a": "a" * 64}}, "labels", ["must be no more than 63 characters"]),
    ],
)
def test_keys_of_labels_and_annotations_are_qualified_names(
    api: Api, resource: Resource, metadata: Body, field: str, words: list[str]
) -> None:
    """The keys of labels and annotations follow the same rule as finalizers, label values too."""
    make(api, resource)
    answer = api.merge_patch(resource.path_to("a"), {"metadata": metadata})
    body = refused(answer, 422, f"metadata.{field}: Invalid value: ", *words, reason="Invalid")
    assert causes(body) == {(f"metadata.{field}", "FieldValueInvalid")}


def test_labels_and_annotations_that_are_good(api: Api, resource: Resource) -> None:
    """Label values may be empty, and prefixes of annotations may have upper case."""
    make(api, resource, labels={"a.com/A": ""}, annotations={"A.com/a": "any thing"})


def test_annotations_have_a_size(api: Api, resource: Resource) -> None:
    """All annotations of an object together may have 256 KiB."""
    make(api, resource)
    for size, status in ((256 * 1024 - 1, 200), (256 * 1024, 422)):
        patch = {"metadata": {"annotations": {"a": "x" * size}}}
        answer = api.merge_patch(resource.path_to("a"), patch)
        assert answer.status_code == status
    words = "metadata.annotations: Too long: must have at most 262144 bytes"
    assert causes(refused(answer, 422, words)) == {("metadata.annotations", "FieldValueTooLong")}


def test_all_that_is_wrong_is_told(api: Api, resource: Resource) -> None:
    """One refusal names all that is wrong, in brackets, and each as a cause of its own."""
    make(api, resource)
    metadata = {"uid": "wrong", "finalizers": ["a b"], "labels": {"x y": "z"}}
    answer = api.merge_patch(resource.path_to("a"), {"metadata": metadata})
    body = refused(answer, 422, 'Thing.example.com "a" is invalid: [metadata.labels: Invalid')
    fields = ["metadata.labels", "metadata.finalizers", "metadata.uid"]
    assert causes(body) == {(field, "FieldValueInvalid") for field in fields}
    assert list(dict.fromkeys(re.findall(r"metadata\.\w+", body["message"]))) == fields
    details = {key: body["details"][key] for key in ("name", "group", "kind")}
    assert details == {"name": "a", "group": "example.com", "kind": "Thing"}


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


# Deletion


def test_an_object_without_finalizers_goes_at_once(api: Api, resource: Resource) -> None:
    """The deletion of an object without finalizers removes it, and says which one it was."""
    uid = make(api, resource)["metadata"]["uid"]
    body = accepted(api.delete(resource.path_to("a")))
    assert (body["kind"], body["status"]) == ("Status", "Success")
    details = {"name": "a", "group": "example.com", "kind": "things", "uid": uid}
    assert body["details"] == details
    refused(api.get(resource.path_to("a")), 404, 'things.example.com "a" not found')
    answer = api.delete(resource.path_to("a"))
    body = refused(answer, 404, 'things.example.com "a" not found', reason="NotFound")
    assert body["details"] == {"name": "a", "group": "example.com", "kind": "things"}


def test_an_object_with_finalizers_waits(api: Api, resource: Resource) -> None:
    """The deletion of an object with finalizers marks it, once; a second one changes nothing."""
    before = make(api, resource, finalizers=[A, B])
    marked = accepted(api.delete(resource.path_to("a")))
    metadata = marked["metadata"]
    assert re.fullmatch(r"20\d\d-.*Z", metadata["deletionTimestamp"])
    assert metadata["deletionGracePeriodSeconds"] == 0
    assert metadata["finalizers"] == [A, B]
    assert metadata["uid"] == before["metadata"]["uid"]
    assert int(version(marked)) > int(version(before))
    assert stored(api, resource) == marked
    assert accepted(api.delete(resource.path_to("a"))) == marked


@pytest.mark.parametrize("how", ["json", "merge", "put"])
def test_the_last_finalizer_lets_the_object_go(api: Api, resource: Resource, how: str) -> None:
    """Removing the last finalizer of an object that is being deleted removes the object.

    The answer is the object without finalizers, at the version that it had. Watchers see it once
    more as it was stored last, with its finalizers.
    """
    make(api, resource, finalizers=[A, B])
    path = resource.path_to("a")
    with api.watching(resource.path) as seen:
        marked = accepted(api.delete(path))
        if how == "json":
            accepted(api.json_patch(path, [op("remove", f"{LIST}/0")]))
            patch = [op("test", f"{LIST}/0", B), op("remove", f"{LIST}/0")]
            body = accepted(api.json_patch(path, patch))
        elif how == "merge":
            accepted(api.merge_patch(path, {"metadata": {"finalizers": [B]}}))
            body = accepted(api.merge_patch(path, {"metadata": {"finalizers": None}}))
        else:
            changed = {**marked, "metadata": {**marked["metadata"], "finalizers": [B]}}
            changed = accepted(api.replace(path, changed))
            changed["metadata"]["finalizers"] = []
            body = accepted(api.replace(path, changed))
        assert finalizers(body) == []
        assert body["metadata"]["deletionTimestamp"]
        refused(api.get(path), 404, reason="NotFound")
        last = seen.wait_for("DELETED", "a")
        assert seen.types("a") == ["MODIFIED", "MODIFIED", "DELETED"]
        assert finalizers(last) == [B]
        assert int(version(last)) > int(version(body))
    refused(api.json_patch(path, []), 404, reason="NotFound")
    again = make(api, resource)
    assert again["metadata"]["uid"] != body["metadata"]["uid"]


def test_no_new_finalizers_while_deleting(api: Api, resource: Resource) -> None:
    """An object that is being deleted takes no new finalizers, not even along with good ones."""
    make(api, resource, finalizers=[B])
    before = accepted(api.delete(resource.path_to("a")))
    path = resource.path_to("a")
    for answer in (
        api.json_patch(path, [op("add", f"{LIST}/-", C), op("add", f"{LIST}/-", A)]),
        api.merge_patch(path, {"metadata": {"finalizers": [C, A]}}),
        api.replace(path, {**before, "metadata": {**before["metadata"], "finalizers": [A, C]}}),
    ):
        body = refused(answer, 422, f'{DELETING}{{"{A}", "{C}"}}', reason="Invalid")
        assert causes(body) == {("metadata.finalizers", "FieldValueForbidden")}
    assert stored(api, resource) == before


def test_a_finalizer_again_while_deleting(api: Api, resource: Resource) -> None:
    """A duplicate of a finalizer is no new one, even while the object is being deleted."""
    make(api, resource, finalizers=[A])
    accepted(api.delete(resource.path_to("a")))
    patch = [op("add", f"{LIST}/-", A)]
    assert finalizers(accepted(api.json_patch(resource.path_to("a"), patch))) == [A, A]


def test_content_changes_while_deleting(api: Api, resource: Resource) -> None:
    """All else of an object that is being deleted can still be changed."""
    make(api, resource, finalizers=[A])
    accepted(api.delete(resource.path_to("a")))
    patch = {"spec": {"x": 2}, "metadata": {"labels": {"a": "1"}}}
    body = accepted(api.merge_patch(resource.path_to("a"), patch))
    assert body["spec"] == {"x": 2}
    assert body["metadata"]["labels"] == {"a": "1"}


def test_nothing_but_a_deletion_marks_an_object(api: Api, resource: Resource) -> None:
    """A patch neither marks an object for deletion nor takes the mark away."""
    make(api, resource, finalizers=[A])
    path = resource.path_to("a")
    for field, value, shown in (
        ("deletionTimestamp", "2020-01-01T00:00:00Z", "2020-01-01 00:00:00 +0000 UTC"),
        ("deletionGracePeriodSeconds", 5, "5"),
    ):
        words = f"metadata.{field}: Invalid value: {shown}: field is immutable"
        refused(api.merge_patch(path, {"metadata": {field: value}}), 422, words)
    marked = accepted(api.delete(path))["metadata"]
    for other in (None, "2020-01-01T00:00:00Z"):
        body = accepted(api.merge_patch(path, {"metadata": {"deletionTimestamp": other}}))
        assert body["metadata"]["deletionTimestamp"] == marked["deletionTimestamp"]
    words = "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable"
    refused(api.merge_patch(path, {"metadata": {"deletionGracePeriodSeconds": 5}}), 422, words)
    patch = {"metadata": {"deletionGracePeriodSeconds": None}}
    assert accepted(api.merge_patch(path, patch))["metadata"]["deletionGracePeriodSeconds"] == 0


@pytest.mark.parametrize("waiting", [False, True], ids=["at-once", "with-finalizers"])
def test_a_deletion_with_preconditions(api: Api, resource: Resource, waiting: bool) -> None:
    """A deletion can be meant for one life or one version of an object, and is else a conflict."""
    metadata = make(api, resource, finalizers=[A] if waiting else [])["metadata"]
    path = resource.path_to("a")
    uid, version_ = metadata["uid"], metadata["resourceVersion"]
    refused(
        api.delete(path, {"preconditions": {"uid": "wrong", "resourceVersion": "1"}}),
        409,
        'Operation cannot be fulfilled on Thing.example.com "a": the UID in the precondition'
        f" (wrong) does not match the UID in record ({uid}). The object might have been deleted"
        " and then recreated",
        reason="Conflict",
    )
    refused(
        api.delete(path, {"preconditions": {"uid": uid, "resourceVersion": "1"}}),
        409,
        "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record"
        f" ({version_}). The object might have been modified",
        reason="Conflict",
    )
    options: Body = {"apiVersion": "v1", "kind": "DeleteOptions"}
    options |= {"preconditions": {"uid": uid, "resourceVersion": version_}}
    accepted(api.delete(path, options))
    if waiting:
        answer = api.delete(path, {"preconditions": {"uid": "wrong"}})
        refused(answer, 409, "the UID in the precondition (wrong)", reason="Conflict")


@pytest.mark.parametrize("where", ["body", "query"])
@pytest.mark.parametrize(
    ("policy", "added"),
    [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"]), ("Background", [])],
)
def test_a_deletion_with_a_propagation_policy(
    api: Api, resource: Resource, policy: str, added: list[str], where: str
) -> None:
    """A propagation policy is a finalizer for the garbage collector; a later policy replaces it."""
    make(api, resource, finalizers=[A])
    path = resource.path_to("a")
    if where == "body":
        answer = api.delete(path, {"propagationPolicy": policy})
    else:
        answer = api.delete(path, propagationPolicy=policy)
    assert finalizers(accepted(answer)) == [A, *added]
    assert finalizers(accepted(api.delete(path))) == [A, *added]
    body = accepted(api.delete(path, {"propagationPolicy": "Background"}))
    assert finalizers(body) == [A]
    assert body["metadata"]["generation"] == 2


def test_a_deletion_in_another_format(api: Api, resource: Resource) -> None:
    """Options of a deletion in an unknown format are refused."""
    make(api, resource)
    answer = api.request("DELETE", resource.path_to("a"), {}, content_type=MERGE_PATCH)
    refused(answer, 415, "application/json", reason="UnsupportedMediaType")
    stored(api, resource)


# The status


def test_the_status_has_a_way_of_its_own(api: Api, resource: Resource) -> None:
    """The object's own path leaves the status alone, and the status' path leaves all else alone."""
    before = make(api, resource)
    path, status = resource.path_to("a"), resource.path_to("a", "status")
    assert accepted(api.get(status)) == before
    change = {
        "metadata": {"finalizers": [A], "labels": {"a": "1"}, "uid": "wrong"},
        "spec": {"x": 2},
        "status": {"a": 1, "b": 1},
    }
    body = accepted(api.merge_patch(status, change))
    assert body["status"] == {"a": 1, "b": 1}
    assert body["spec"] == {"x": 1}
    assert "finalizers" not in body["metadata"]
    assert "labels" not in body["metadata"]
    assert version(body) != version(before)
    patch = [op("remove", "/status/b"), op("add", LIST, ["a b"])]
    assert accepted(api.json_patch(status, patch))["status"] == {"a": 1}
    body = stored(api, resource)
    body |= {"status": {"c": 1}, "spec": {"x": 3}}
    body = accepted(api.replace(status, body))
    assert (body["status"], body["spec"]) == ({"c": 1}, {"x": 1})
    body = accepted(api.merge_patch(path, {"spec": {"x": 4}, "status": {"d": 1}}))
    assert (body["status"], body["spec"]) == ({"c": 1}, {"x": 4})
    body = accepted(api.replace(path, {**body, "status": {"e": 1}}))
    assert body["status"] == {"c": 1}
    assert "status" not in accepted(api.merge_patch(status, {"status": None}))


def test_the_status_does_not_let_an_object_go(api: Api, resource: Resource) -> None:
    """A finalizer cannot be removed by way of the status."""
    make(api, resource, finalizers=[A])
    accepted(api.delete(resource.path_to("a")))
    patch = {"metadata": {"finalizers": []}, "status": {"a": 1}}
    assert finalizers(accepted(api.merge_patch(resource.path_to("a", "status"), patch))) == [A]
    assert stored(api, resource)["status"] == {"a": 1}


def test_a_resource_without_a_status(api: Api, server: Server) -> None:
    """Without such a subresource, the status is a field like any other."""
    server.define("example.com", "v1", "plains", kind="Plain", status=False)
    resource = Resource("example.com", "v1", "plains", "Plain")
    body = {**resource.body("a"), "status": {"a": 1}}
    assert accepted(api.create(resource.path, body), 201)["status"] == {"a": 1}
    body = accepted(api.merge_patch(resource.path_to("a"), {"status": {"a": 2}}))
    assert body["status"] == {"a": 2}
    assert body["metadata"]["generation"] == 2
    refused(api.merge_patch(resource.path_to("a", "status"), {}), 404, reason="NotFound")


# Server-side apply


def applied(resource: Resource, *names: str, name: str = "a", **metadata: Any) -> Body:
    """What an owner of these finalizers sends."""
    if names:
        metadata["finalizers"] = list(names)
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, **metadata},
    }


def owned(body: Body) -> dict[tuple[str, str], set[str]]:
    """Which finalizers a manager owns, by its name and whether it applied them."""
    owners = {}
    for entry in body["metadata"].get("managedFields", []):
        assert entry["fieldsType"] == "FieldsV1"
        fields = entry["fieldsV1"].get("f:metadata", {}).get("f:finalizers", {})
        names = {key[3:-1] for key in fields if key.startswith("v:")}
        if names:
            owners[entry["manager"], entry["operation"]] = names
    return owners


def test_apply_adds_to_the_list(api: Api, resource: Resource) -> None:
    """What is applied is added, and everyone else's entries stay; once more is no change."""
    path, uid = resource.path_to("a"), make(api, resource, finalizers=[B])["metadata"]["uid"]
    body = accepted(api.apply(path, applied(resource, A, uid=uid), manager="m"))
    assert finalizers(body) == [B, A]
    assert owned(body) == {("m", "Apply"): {A}, ("python-httpx", "Update"): {B}}
    assert body["metadata"]["generation"] == 1
    # Owners have a time, in whole seconds: it does not change either.
    time = body["metadata"]["managedFields"][0]["time"]
    wait_until(lambda: datetime.now(UTC).isoformat()[:19] > time[:19])
    assert accepted(api.apply(path, applied(resource, A, uid=uid), manager="m")) == body


def test_apply_works_on_a_living_object_without_finalizers(api: Api, resource: Resource) -> None:
    """Nothing has to be there before the first apply, neither finalizers nor owners."""
    make(api, resource)
    body = accepted(api.apply(resource.path_to("a"), applied(resource, A, B), manager="m"))
    assert finalizers(body) == [A, B]
    assert owned(body) == {("m", "Apply"): {A, B}}


def test_apply_takes_back_what_is_not_applied_any_more(api: Api, resource: Resource) -> None:
    """What a manager had applied and no longer does is gone; what came in other ways stays."""
    make(api, resource, finalizers=[B])
    path = resource.path_to("a")
    accepted(api.apply(path, applied(resource, A), manager="m"))
    accepted(api.apply(path, applied(resource, C), manager="other"))
    body = accepted(api.apply(path, applied(resource), manager="m"))
    assert finalizers(body) == [B, C]
    assert owned(body) == {("other", "Apply"): {C}, ("python-httpx", "Update"): {B}}
    body = accepted(api.apply(path, applied(resource, finalizers=[]), manager="other"))
    assert finalizers(body) == [B]


def test_apply_of_what_others_own_too(api: Api, resource: Resource) -> None:
    """A finalizer with several owners stays until the last of them gives it up."""
    make(api, resource, finalizers=[A])
    path = resource.path_to("a")
    accepted(api.apply(path, applied(resource, A, B), manager="m"))
    body = accepted(api.apply(path, applied(resource, B), manager="other"))
    assert owned(body) == {
        ("m", "Apply"): {A, B},
        ("other", "Apply"): {B},
        ("python-httpx", "Update"): {A},
    }
    assert finalizers(accepted(api.apply(path, applied(resource), manager="m"))) == [A, B]
    assert finalizers(accepted(api.apply(path, applied(resource), manager="other"))) == [A]


def test_one_manager_in_two_ways(api: Api, resource: Resource) -> None:
    """A manager that applies is not the same as one of the same name that writes otherwise."""
    make(api, resource)
    path = resource.path_to("a")
    accepted(api.apply(path, applied(resource, A), manager="m"))
    patch = {"metadata": {"finalizers": [A, B]}}
    body = accepted(api.merge_patch(path, patch, fieldManager="m"))
    assert owned(body) == {("m", "Apply"): {A}, ("m", "Update"): {B}}
    assert finalizers(accepted(api.apply(path, applied(resource), manager="m"))) == [B]


def test_nobody_owns_what_others_removed(api: Api, resource: Resource) -> None:
    """A finalizer that is removed by another kind of patch has no owner, however it comes back."""
    make(api, resource)
    path = resource.path_to("a")
    accepted(api.apply(path, applied(resource, A), manager="m"))
    body = accepted(api.json_patch(path, [op("remove", f"{LIST}/0")]))
    assert owned(body) == {}
    body = accepted(api.merge_patch(path, {"metadata": {"finalizers": [A]}}, fieldManager="x"))
    assert owned(body) == {("x", "Update"): {A}}
    assert finalizers(accepted(api.apply(path, applied(resource), manager="m"))) == [A]


def test_owners_of_what_other_requests_write(api: Api, resource: Resource) -> None:
    """Other requests own what they bring, and leave the owners of what is there already."""
    make(api, resource)
    path = resource.path_to("a")
    before = accepted(api.apply(path, applied(resource, A), manager="m"))
    before["metadata"]["finalizers"] = [B, A]
    body = accepted(api.replace(path, before))
    assert owned(body) == {("m", "Apply"): {A}, ("python-httpx", "Update"): {B}}
    patch = {"metadata": {"finalizers": [A, B, C]}}
    body = accepted(api.merge_patch(path, patch))
    assert owned(body) == {("m", "Apply"): {A}, ("python-httpx", "Update"): {B, C}}


def test_apply_makes_an_object(api: Api, resource: Resource) -> None:
    """An apply without a uid creates the object if it is gone."""
    path = resource.path_to("a")
    body = accepted(api.apply(path, applied(resource, A), manager="m"), 201)
    assert body["metadata"]["namespace"] == resource.namespace
    assert finalizers(body) == [A]
    assert owned(body) == {("m", "Apply"): {A}}
    accepted(api.apply(resource.path_to("b"), applied(resource, name="b"), manager="m"), 201)
    nowhere = resource.within("nowhere").path_to("a")
    answer = api.apply(nowhere, applied(resource), manager="m")
    refused(answer, 404, 'namespaces "nowhere" not found', reason="NotFound")
    answer = api.apply(resource.path_to("c"), applied(resource, A), manager="m")
    refused(answer, 400, "the name of the object (a) does not match the name on the URL (c)")


def test_apply_with_a_uid_makes_no_object(api: Api, resource: Resource) -> None:
    """An apply with a uid is a conflict if the object is gone."""
    answer = api.apply(resource.path_to("a"), applied(resource, A, uid="mine"), manager="m")
    words = (
        'Operation cannot be fulfilled on things.example.com "a": uid mismatch: the provided'
        " object specified uid mine, and no existing object was found"
    )
    refused(answer, 409, words, reason="Conflict")
    assert api.get(resource.path_to("a")).status_code == 404


def test_apply_with_another_uid_or_version(api: Api, resource: Resource) -> None:
    """An apply with the uid of another object is invalid, one with another version a conflict."""
    before = make(api, resource)
    path = resource.path_to("a")
    for names in ([A], []):
        answer = api.apply(path, applied(resource, *names, uid="wrong"), manager="m")
        words = 'metadata.uid: Invalid value: "wrong": field is immutable'
        refused(answer, 422, words, reason="Invalid")
    answer = api.apply(path, applied(resource, A, resourceVersion="1"), manager="m")
    refused(answer, 409, "the object has been modified", reason="Conflict")
    assert stored(api, resource) == before


def test_apply_while_deleting(api: Api, resource: Resource) -> None:
    """An object that is being deleted takes no new finalizers, and the last release lets it go."""
    make(api, resource)
    path = resource.path_to("a")
    accepted(api.apply(path, applied(resource, A), manager="m"))
    with api.watching(resource.path) as seen:
        accepted(api.delete(path))
        answer = api.apply(path, applied(resource, A, B), manager="m")
        refused(answer, 422, f'{DELETING}{{"{B}"}}', reason="Invalid")
        accepted(api.apply(path, applied(resource, A), manager="m"))
        body = accepted(api.apply(path, applied(resource), manager="m"))
        assert finalizers(body) == []
        seen.wait_for("DELETED", "a")
    refused(api.get(path), 404, reason="NotFound")


def test_apply_takes_the_list_for_a_set(api: Api, resource: Resource) -> None:
    """A list with duplicates, there or applied, cannot be applied to: an error of the server."""
    make(api, resource, "a", finalizers=[A, A])
    make(api, resource, "b")
    words = f'.metadata.finalizers: duplicate entries for key [="{A}"]'
    refused(api.apply(resource.path_to("a"), applied(resource, B), manager="m"), 500, words)
    body = applied(resource, A, A, name="b")
    refused(api.apply(resource.path_to("b"), body, manager="m"), 500, words)


@pytest.mark.parametrize(
    ("manager", "words", "reason"),
    [
        (None, "Required value: is required for apply patch", "FieldValueRequired"),
        ("m" * 129, "Too long: must have at most 128 bytes", "FieldValueTooLong"),
    ],
    ids=["none", "too-long"],
)
def test_apply_needs_a_manager(
    api: Api, resource: Resource, manager: str, words: str, reason: str
) -> None:
    """An apply must say in whose name, in 128 bytes at most."""
    make(api, resource)
    answer = api.apply(resource.path_to("a"), applied(resource, A), manager=manager)
    message = f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {words}'
    body = refused(answer, 422, message, reason="Invalid")
    assert causes(body) == {("fieldManager", reason)}
    accepted(api.apply(resource.path_to("a"), applied(resource, A), manager="m" * 128))


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"apiVersion": "example.com/v2"}, 400, "Specified patch version: example.com/v2"),
        ({"apiVersion": None}, 400, "Incorrect version specified in apply patch"),
        ({"kind": "Other"}, 500, "no corresponding type for example.com/v1, Kind=Other"),
        ({"metadata": {"name": "b"}}, 400, "the name of the object (b) does not match"),
        ({"metadata": {"namespace": "b"}}, 400, "the namespace of the object (b) does not match"),
        ({"metadata": {"managedFields": []}}, 400, "metadata.managedFields must be nil"),
        ({"metadata": {"finalizers": ["a b"]}}, 422, f"name part {NAME_RULE}"),
        ({"metadata": {"finalizers": "text"}}, 500, "failed to create typed patch object"),
    ],
)
def test_apply_of_what_does_not_fit(
    api: Api, resource: Resource, change: Body, status: int, words: str
) -> None:
    """An apply of another kind, version, name or shape is refused."""
    before = make(api, resource)
    body = {**applied(resource, A), **change}
    refused(api.apply(resource.path_to("a"), body, manager="m"), status, words)
    assert stored(api, resource) == before


def test_apply_needs_no_name(api: Api, resource: Resource) -> None:
    """The path of an apply says the name already."""
    make(api, resource)
    body = {**applied(resource), "metadata": {"finalizers": [A]}}
    assert finalizers(accepted(api.apply(resource.path_to("a"), body, manager="m"))) == [A]


@pytest.mark.parametrize("content", [b"{", b"[1]"], ids=["unreadable", "list"])
def test_apply_of_what_cannot_be_read(api: Api, resource: Resource, content: bytes) -> None:
    """An apply of what is no object is a bad request."""
    make(api, resource)
    answer = api.request(
        "PATCH",
        resource.path_to("a"),
        content,
        content_type="application/apply-patch+yaml",
        fieldManager="m",
    )
    refused(answer, 400, "error decoding YAML", reason="BadRequest")


# Lists and watches


def test_a_list_has_a_version(api: Api, resource: Resource) -> None:
    """A list has the objects of the namespace by name, and the version to watch from."""
    for name in ("b", "a"):
        make(api, resource, name)
    body = accepted(api.get(resource.path))
    assert (body["apiVersion"], body["kind"]) == ("example.com/v1", "ThingList")
    assert body["items"] == [stored(api, resource, name) for name in ("a", "b")]
    assert int(body["metadata"]["resourceVersion"]) >= int(version(stored(api, resource, "a")))
    everywhere = api.list(resource.everywhere)
    assert [o for o in everywhere if o["metadata"]["namespace"] == resource.namespace] == (
        body["items"]
    )
    assert accepted(api.get(resource.path, watch="false"))["kind"] == "ThingList"


def test_a_watch_from_a_version(api: Api, resource: Resource) -> None:
    """A watch from a version gets all that has changed since, in order, and what changes then."""
    start = version(make(api, resource, "old"))
    first = make(api, resource, "a")
    with api.watching(resource.path, resourceVersion=start) as seen:
        second = accepted(api.merge_patch(resource.path_to("a"), {"spec": {"x": 2}}))
        accepted(api.delete(resource.path_to("a")))
        last = seen.wait_for("DELETED", "a")
        assert seen.types() == ["ADDED", "MODIFIED", "DELETED"]
        assert [body for _, body in seen.of("a")][:2] == [first, second]
        assert int(version(last)) > int(version(second))
        assert {**last, "metadata": {**last["metadata"], "resourceVersion": ""}} == {
            **second,
            "metadata": {**second["metadata"], "resourceVersion": ""},
        }


@pytest.mark.parametrize("start", ["", "0"], ids=["none", "zero"])
def test_a_watch_from_nowhere(api: Api, resource: Resource, start: str) -> None:
    """A watch without a version begins with all that is there, as if it had just been added."""
    body = make(api, resource)
    with api.watching(resource.path, resourceVersion=start) as seen:
        assert seen.wait_for("ADDED", "a") == body
        make(api, resource, "b")
        seen.wait_for("ADDED", "b")
        assert seen.types() == ["ADDED", "ADDED"]


def test_a_watch_sees_its_namespace_only(api: Api, resource: Resource) -> None:
    """A watch of one namespace sees no other; a watch of all sees all."""
    other = resource.within("default")
    with api.watching(resource.path) as here, api.watching(resource.everywhere) as everywhere:
        make(api, other, "watched-elsewhere")
        make(api, resource, "watched-here")
        here.wait_for("ADDED", "watched-here")
        everywhere.wait_for("ADDED", "watched-here")
        everywhere.wait_for("ADDED", "watched-elsewhere")
        assert here.of("watched-elsewhere") == []


def test_a_watch_ends_in_time(api: Api, resource: Resource) -> None:
    """A watch with a timeout ends by itself, in good order."""
    start = version(make(api, resource))
    query = {"watch": "true", "timeoutSeconds": 1, "allowWatchBookmarks": "true"}
    answer = api.get(resource.path, resourceVersion=start, **query)
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["Content-Type"].startswith("application/json")
    answer = api.get(resource.path, watch="true", timeoutSeconds="soon")
    refused(answer, 400, "invalid syntax", reason="BadRequest")


def test_only_collections_are_watched(api: Api, resource: Resource) -> None:
    """One object is not watched by its path: the answer is the object."""
    body = make(api, resource)
    assert accepted(api.get(resource.path_to("a"), watch="true")) == body
    refused(api.get(resource.path_to("b"), watch="true"), 404, reason="NotFound")


# What there is


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
    """A path that leads nowhere finds nothing."""
    assert api.get(path).status_code == 404


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
