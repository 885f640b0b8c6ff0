"""Server-side apply on an API server: who owns which finalizer."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ..support.answers import (
    DELETING,
    LIST,
    NAME_RULE,
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
from ..support.servers import Api, Body, Resource, wait_until


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
