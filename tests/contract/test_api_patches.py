"""JSON Patches and merge patches on an API server, in process and real."""

import pytest

from ..support.answers import (
    LIST,
    REJECTED,
    A,
    B,
    C,
    accepted,
    causes,
    finalizers,
    make,
    op,
    refused,
    stored,
)
from ..support.servers import JSON_PATCH, MERGE_PATCH, Api, Body, Resource

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
