"""Deletions on an API server, and the status, which lets no object go."""

import re

import pytest

from ..support.answers import (
    DELETING,
    LIST,
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
    version,
)
from ..support.servers import MERGE_PATCH, Api, Body, Resource, Server

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
