"""Own-finalizer changes: inside Kopf on a patch, and as plain data for any other client."""

import copy
from collections.abc import Callable
from typing import Any, cast

import jsonpatch
import kopf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kopf_finalizers import (
    ConfigurationError,
    add_finalizer,
    has_finalizer,
    json_patch,
    merge_patch,
    remove_finalizer,
)
from kopf_finalizers._changes import AddFinalizer, RemoveFinalizer

from ..support.servers import Body

OWN = "mycompany.com/db-operator"
OTHER = "other.org/f"
THIRD = "third.org/f"

PROPERTY = settings(deadline=None)
CHANGES = [add_finalizer, remove_finalizer]


def body_with(*finalizers: str, **metadata: Any) -> Body:
    """An object as an API server returns it: without a list where there is no finalizer."""
    lists = {"finalizers": list(finalizers)} if finalizers else {}
    return {"metadata": {"name": "t", "uid": "1-2", "resourceVersion": "3", **lists, **metadata}}


def kopf_body(body: Body) -> kopf.Body:
    return kopf.Body(cast("kopf.RawBody", body))


def patch_for(body: Body) -> kopf.Patch:
    """A patch as Kopf makes it for a handler of this object."""
    return kopf.Patch(body=kopf_body(body))


def applied(patch: kopf.Patch, body: Body) -> Body:
    """The object after Kopf has sent the patch as a JSON Patch over this body."""
    operations = patch.as_json_patch(cast("kopf.RawBody", body))
    return cast("Body", jsonpatch.apply_patch(body, operations))


def finalizers_after(patch: kopf.Patch, body: Body) -> list[str]:
    return list(applied(patch, body)["metadata"].get("finalizers") or [])


# has_finalizer


@pytest.mark.parametrize(
    ("body", "there"),
    [
        (body_with(OWN), True),
        (kopf_body(body_with(OTHER, OWN)), True),
        (body_with(OWN, OWN), True),
        (body_with(OTHER), False),
        (body_with(f"{OWN}.backups", f"{OWN}s"), False),
        (body_with(), False),
        (kopf_body(body_with()), False),
        ({}, False),
        ({"metadata": None}, False),
        ({"metadata": {"finalizers": None}}, False),
        ({"metadata": {"finalizers": []}}, False),
    ],
)
def test_finalizer_is_seen_on_any_body(body: Any, there: bool) -> None:
    """A finalizer is on an object if its whole name is in the list, in whatever form it comes."""
    assert has_finalizer(body, OWN) is there


# add_finalizer and remove_finalizer


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (body_with(), [OWN]),
        (body_with(OTHER), [OTHER, OWN]),
        (body_with(OTHER, THIRD), [OTHER, THIRD, OWN]),
        (body_with(finalizers=None), [OWN]),
        (body_with(finalizers=[]), [OWN]),
        ({"metadata": None}, [OWN]),
        ({}, [OWN]),
        ({"metadata": {"deletionTimestamp": None}}, [OWN]),
    ],
)
def test_finalizer_is_added_at_the_end(body: Body, expected: list[str]) -> None:
    """A finalizer that is not there is added; everybody else's stay in their places."""
    patch = patch_for(body)
    add_finalizer(patch, OWN)
    assert finalizers_after(patch, body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (body_with(OWN), []),
        (body_with(OWN, OTHER), [OTHER]),
        (body_with(OTHER, OWN, THIRD), [OTHER, THIRD]),
        (body_with(OWN, OTHER, OWN, THIRD, OWN), [OTHER, THIRD]),
        (body_with(OTHER, OTHER, OWN), [OTHER, OTHER]),
        (body_with(OWN, deletionTimestamp="2030-01-01T00:00:00Z"), []),
    ],
)
def test_finalizer_is_removed_with_its_duplicates(body: Body, expected: list[str]) -> None:
    """A finalizer is removed wherever it stands; nobody else's are, not even their duplicates."""
    patch = patch_for(body)
    remove_finalizer(patch, OWN)
    assert finalizers_after(patch, body) == expected


@pytest.mark.parametrize(
    ("change", "body"),
    [
        (add_finalizer, body_with(OWN)),
        (add_finalizer, body_with(OTHER, OWN)),
        (add_finalizer, body_with(deletionTimestamp="2030-01-01T00:00:00Z")),
        (add_finalizer, body_with(OTHER, deletionTimestamp="2030-01-01T00:00:00Z")),
        (remove_finalizer, body_with(OTHER)),
        (remove_finalizer, body_with()),
        (remove_finalizer, body_with(finalizers=None)),
        (remove_finalizer, {"metadata": None}),
        (remove_finalizer, {}),
    ],
)
def test_nothing_is_put_on_the_patch_where_there_is_nothing_to_do(
    change: Callable[[kopf.Patch, str], None], body: Body
) -> None:
    """The patch stays empty, so that Kopf wakes up for handlers that wait for their retry.

    Kopf does not sleep for them after a cycle with any function on the patch, whether or not that
    changes anything: it expects the event that follows a patch.
    """
    patch = patch_for(body)
    change(patch, OWN)
    assert not patch


@pytest.mark.parametrize("change", CHANGES)
def test_patch_without_a_body_takes_the_change(change: Callable[[kopf.Patch, str], None]) -> None:
    """On a patch that a user's test made, the change is there to be seen."""
    patch = kopf.Patch()
    change(patch, OWN)
    assert [repr(fn) for fn in patch.fns] in (
        [f"AddFinalizer({OWN!r})"],
        [f"RemoveFinalizer({OWN!r})"],
    )
    assert [fn.name for fn in cast("list[Any]", patch.fns)] == [OWN]


@pytest.mark.parametrize(
    ("change", "fresh", "expected"),
    [
        (add_finalizer, body_with(OWN, OTHER), [OWN, OTHER]),
        (add_finalizer, body_with(THIRD), [THIRD, OWN]),
        (add_finalizer, body_with(THIRD, deletionTimestamp="2030-01-01T00:00:00Z"), [THIRD]),
        (remove_finalizer, body_with(THIRD, OWN, OTHER), [THIRD, OTHER]),
        (remove_finalizer, body_with(THIRD), [THIRD]),
        (remove_finalizer, {}, None),
    ],
)
def test_change_is_made_on_the_body_that_it_is_called_with(
    change: Callable[[kopf.Patch, str], None], fresh: Body, expected: list[str] | None
) -> None:
    """After a conflict Kopf calls the function again, and it is right for the fresher body."""
    patch = kopf.Patch()
    change(patch, OWN)
    (fn,) = patch.fns
    for _ in range(3):
        fn(cast("kopf.RawBody", fresh))
        assert (fresh.get("metadata") or {}).get("finalizers") == expected


@pytest.mark.parametrize("change", CHANGES)
def test_change_leaves_the_body_it_was_read_from_alone(
    change: Callable[[kopf.Patch, str], None],
) -> None:
    """The lists of Kopf's cached body are not changed, only those of the copy that it diffs."""
    body = body_with(OTHER, OWN) if change is remove_finalizer else body_with(OTHER)
    before = copy.deepcopy(body)
    patch = patch_for(body)
    change(patch, OWN)
    applied(patch, body)
    assert body == before


@pytest.mark.parametrize(
    ("body", "calls", "expected"),
    [
        (body_with(), [add_finalizer, add_finalizer], ["AddFinalizer"]),
        (body_with(OWN), [remove_finalizer, remove_finalizer], ["RemoveFinalizer"]),
        (body_with(), [add_finalizer, remove_finalizer], ["AddFinalizer", "RemoveFinalizer"]),
        (body_with(OWN), [remove_finalizer, add_finalizer], ["RemoveFinalizer", "AddFinalizer"]),
        (body_with(OWN), [add_finalizer, remove_finalizer], ["RemoveFinalizer"]),
        (body_with(), [remove_finalizer, add_finalizer], ["AddFinalizer"]),
    ],
)
def test_the_last_change_of_one_finalizer_counts(
    body: Body, calls: list[Callable[[kopf.Patch, str], None]], expected: list[str]
) -> None:
    """Several handlers may change their minds in one cycle; what was said last is what happens."""
    patch = patch_for(body)
    for change in calls:
        change(patch, OWN)
    assert [type(fn).__name__ for fn in patch.fns] == expected
    assert (OWN in finalizers_after(patch, body)) == (calls[-1] is add_finalizer)


def test_changes_of_different_finalizers_go_together() -> None:
    """Changes of two finalizers of one operator are both made, beside a handler's own functions."""
    body = body_with(OTHER, OWN)
    patch = patch_for(body)
    patch.fns.append(lambda raw: raw.setdefault("spec", {}).update(size=3))
    add_finalizer(patch, f"{OWN}.backups")
    remove_finalizer(patch, OWN)
    after = applied(patch, body)
    assert after["metadata"]["finalizers"] == [OTHER, f"{OWN}.backups"]
    assert after["spec"] == {"size": 3}


def applied_as_json(body: dict[str, Any], **wanted: str) -> list[str]:
    patched = jsonpatch.apply_patch(body, json_patch(body, **wanted))
    return list(patched["metadata"].get("finalizers") or [])


def applied_as_merge(body: dict[str, Any], **wanted: str) -> list[str]:
    merged = merge_patch(body, **wanted) or body
    return list(merged["metadata"].get("finalizers") or [])


@pytest.mark.parametrize("change", [applied_as_json, applied_as_merge])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([OWN], [OWN]),
        ([OTHER, OWN, OWN], [OTHER, OWN, OWN]),
        ([OWN, THIRD], [THIRD]),
        ([THIRD, OWN, OTHER, OWN], [THIRD, OTHER]),
    ],
)
def test_on_an_object_being_deleted_none_is_replaced_by_one_that_cannot_come(
    change: Callable[..., list[str]], before: list[str], after: list[str]
) -> None:
    """It would go before its cleanup. Where the new one is there, the old one still goes."""
    body = body_with(*before, deletionTimestamp="2030-01-01T00:00:00Z")
    assert change(body, add=THIRD, remove=OWN) == after


def test_change_reads_well_in_the_log_of_a_patch() -> None:
    """Kopf's debug log shows the patch, and the change in it, by its name."""
    patch = kopf.Patch()
    add_finalizer(patch, OWN)
    remove_finalizer(patch, OTHER)
    assert repr(patch) == (
        "Patch(fns=[AddFinalizer('mycompany.com/db-operator'), RemoveFinalizer('other.org/f')])"
    )


def test_changes_are_equal_by_kind_and_name() -> None:
    """A change is known by what it does, whichever patch it was made for."""
    assert AddFinalizer(OWN) == AddFinalizer(OWN, kopf.Patch())
    assert len({AddFinalizer(OWN), AddFinalizer(OWN), AddFinalizer(OTHER)}) == 2
    both: list[object] = [AddFinalizer(OWN), RemoveFinalizer(OWN)]
    assert both[0] != both[1]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("written", [[], [OTHER], None])
def test_change_beside_a_whole_list_is_refused(
    change: Callable[[kopf.Patch, str], None], written: list[str] | None
) -> None:
    """Who has written the whole list, everybody's, is told which call does it right."""
    patch = patch_for(body_with(OWN))
    patch.metadata["finalizers"] = written
    with pytest.raises(ConfigurationError, match=r"finalizers\.add\(patch\)") as refusal:
        change(patch, OTHER)
    assert "add_finalizer(patch, name)" in str(refusal.value)


@pytest.mark.parametrize("change", CHANGES)
def test_whole_list_written_after_a_change_is_refused_when_kopf_applies_the_patch(
    change: Callable[[kopf.Patch, str], None],
) -> None:
    """A handler that writes the whole list later is caught before anything is sent."""
    patch = kopf.Patch()
    change(patch, OWN)
    patch.metadata["finalizers"] = [OWN]
    with pytest.raises(ConfigurationError, match="replaces the whole list"):
        patch.as_json_patch(cast("kopf.RawBody", body_with(OTHER)))


@pytest.mark.parametrize("change", CHANGES)
def test_other_metadata_may_be_written_beside_a_change(
    change: Callable[[kopf.Patch, str], None],
) -> None:
    """Labels and annotations on the same patch are nobody's finalizers."""
    body = body_with(OTHER, OWN) if change is remove_finalizer else body_with(OTHER)
    patch = patch_for(body)
    patch.metadata.labels["a"] = "b"
    change(patch, OWN)
    after = applied(patch, body)["metadata"]
    assert after["labels"] == {"a": "b"}
    assert OTHER in after["finalizers"]


@pytest.mark.parametrize(
    "call",
    [
        lambda name: has_finalizer(body_with(), name),
        lambda name: add_finalizer(kopf.Patch(), name),
        lambda name: remove_finalizer(kopf.Patch(), name),
        lambda name: json_patch(body_with(), add=name),
        lambda name: json_patch(body_with(), remove=name),
        lambda name: merge_patch(body_with(), add=name),
        lambda name: merge_patch(body_with(), remove=name),
    ],
)
@pytest.mark.parametrize("name", ["", "a b", "MyCompany.com/f", "a/b/c", 7])
def test_name_that_no_api_server_takes_is_refused(call: Callable[[Any], None], name: Any) -> None:
    """A name is checked before anything is read, added or sent."""
    with pytest.raises(ConfigurationError, match="finalizer"):
        call(name)


# json_patch and merge_patch

UID = {"op": "test", "path": "/metadata/uid", "value": "1-2"}


def entry(op: str, where: int | str, value: str | None = None) -> Body:
    operation: Body = {"op": op, "path": f"/metadata/finalizers/{where}"}
    return operation if value is None else {**operation, "value": value}


CREATED = [
    UID,
    {"op": "test", "path": "/metadata/finalizers", "value": None},
    {"op": "add", "path": "/metadata/finalizers", "value": [OWN]},
]


@pytest.mark.parametrize(
    ("body", "change", "operations"),
    [
        (body_with(), {"add": OWN}, CREATED),
        (body_with(finalizers=None), {"add": OWN}, CREATED),
        (body_with(finalizers=[]), {"add": OWN}, CREATED),
        ({"metadata": {}}, {"add": OWN}, CREATED[1:]),
        ({}, {"add": OWN}, CREATED[1:]),
        (body_with(OTHER), {"add": OWN}, [UID, entry("add", "-", OWN)]),
        (kopf_body(body_with(OTHER)), {"add": OWN}, [UID, entry("add", "-", OWN)]),
        (
            body_with(OWN),
            {"remove": OWN},
            [UID, entry("test", 0, OWN), entry("remove", 0)],
        ),
        (
            body_with(OTHER, OWN, THIRD),
            {"remove": OWN},
            [UID, entry("test", 1, OWN), entry("remove", 1)],
        ),
        (
            body_with(OWN, OTHER, OWN),
            {"remove": OWN},
            [UID, entry("test", 2, OWN), entry("remove", 2), entry("test", 0, OWN),
             entry("remove", 0)],
        ),
        (
            body_with(OWN, deletionTimestamp="2030-01-01T00:00:00Z"),
            {"remove": OWN},
            [UID, entry("test", 0, OWN), entry("remove", 0)],
        ),
        (
            body_with(OTHER, OWN),
            {"add": THIRD, "remove": OWN},
            [UID, entry("test", 1, OWN), entry("replace", 1, THIRD)],
        ),
        (
            body_with(OWN, OTHER, OWN),
            {"add": THIRD, "remove": OWN},
            [UID, entry("test", 2, OWN), entry("remove", 2), entry("test", 0, OWN),
             entry("replace", 0, THIRD)],
        ),
        (
            body_with(OWN, THIRD),
            {"add": THIRD, "remove": OWN},
            [UID, entry("test", 0, OWN), entry("remove", 0)],
        ),
        (body_with(OTHER), {"add": THIRD, "remove": OWN}, [UID, entry("add", "-", THIRD)]),
        (
            body_with(OWN, THIRD, deletionTimestamp="2030-01-01T00:00:00Z"),
            {"add": THIRD, "remove": OWN},
            [UID, entry("test", 0, OWN), entry("remove", 0)],
        ),
    ],
)  # fmt: skip
def test_json_patch_names_what_it_relies_on(
    body: Any, change: dict[str, str], operations: list[Body]
) -> None:
    """A JSON Patch tests the object and the entries it touches, and changes one's own only."""
    assert json_patch(body, **change) == operations


@pytest.mark.parametrize(
    ("body", "change", "finalizers"),
    [
        (body_with(), {"add": OWN}, [OWN]),
        (body_with(finalizers=None), {"add": OWN}, [OWN]),
        (body_with(OTHER), {"add": OWN}, [OTHER, OWN]),
        (kopf_body(body_with(OTHER)), {"add": OWN}, [OTHER, OWN]),
        (body_with(OWN), {"remove": OWN}, []),
        (body_with(OWN, OTHER, OWN, THIRD), {"remove": OWN}, [OTHER, THIRD]),
        (body_with(OTHER, OWN, OWN), {"add": THIRD, "remove": OWN}, [OTHER, THIRD]),
        (body_with(OWN, THIRD, OTHER), {"add": THIRD, "remove": OWN}, [THIRD, OTHER]),
        (body_with(OTHER), {"add": THIRD, "remove": OWN}, [OTHER, THIRD]),
        (
            body_with(OWN, THIRD, deletionTimestamp="2030-01-01T00:00:00Z"),
            {"add": THIRD, "remove": OWN},
            [THIRD],
        ),
    ],
)
def test_merge_patch_is_locked_to_what_was_read(
    body: Any, change: dict[str, str], finalizers: list[str]
) -> None:
    """A merge patch holds the whole list, and the version and the object that it belongs to."""
    locked = {"uid": "1-2", "resourceVersion": "3", "finalizers": finalizers}
    assert merge_patch(body, **change) == {"metadata": locked}


@pytest.mark.parametrize(
    ("body", "change"),
    [
        (body_with(OWN), {"add": OWN}),
        (body_with(OTHER), {"remove": OWN}),
        (body_with(), {"remove": OWN}),
        ({"metadata": None}, {"remove": OWN}),
        (body_with(THIRD), {"add": THIRD, "remove": OWN}),
        (body_with(deletionTimestamp="2030-01-01T00:00:00Z"), {"add": OWN}),
        (body_with(OTHER, deletionTimestamp="2030-01-01T00:00:00Z"), {"add": OWN}),
        (body_with(OTHER, deletionTimestamp="x"), {"add": THIRD, "remove": OWN}),
        (body_with(OWN, OTHER, deletionTimestamp="x"), {"add": THIRD, "remove": OWN}),
    ],
)
def test_patch_is_empty_when_there_is_nothing_to_do(body: Body, change: dict[str, str]) -> None:
    """Done is done, and what an API server would refuse is not asked of it."""
    assert json_patch(body, **change) == []
    assert merge_patch(body, **change) == {}


@pytest.mark.parametrize("metadata", [{"uid": "1-2"}, {"resourceVersion": "3"}, {}])
def test_merge_patch_of_a_body_without_version_or_uid_is_refused(metadata: Body) -> None:
    """A merge patch that could not be locked is not made; the other one is named."""
    with pytest.raises(ConfigurationError, match=r"json_patch\(\)"):
        merge_patch({"metadata": metadata}, add=OWN)


@pytest.mark.parametrize("make", [json_patch, merge_patch])
@pytest.mark.parametrize(
    ("change", "said"),
    [({}, "give add=, or remove="), ({"add": OWN, "remove": OWN}, "both added and removed")],
)
def test_change_that_says_nothing_is_refused(
    make: Callable[..., object], change: dict[str, str], said: str
) -> None:
    """Neither of the two, or both the same, is a mistake."""
    with pytest.raises(ConfigurationError, match=said):
        make(body_with(), **change)


@pytest.mark.parametrize(
    "call",
    [
        lambda body: has_finalizer(body, OWN),
        lambda body: json_patch(body, add=OWN),
        lambda body: merge_patch(body, add=OWN),
    ],
)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "must be a mapping, as an API server returns it, not NoneType"),
        ("x", "must be a mapping, as an API server returns it, not str"),
        ([OWN], "must be a mapping, as an API server returns it, not list"),
        (
            {"metadata": {"deletion_timestamp": None, "finalizers": [OWN]}},
            "Python's field names (deletion_timestamp, resource_version)",
        ),
        ({"metadata": {"resource_version": "1"}}, "sanitize_for_serialization"),
    ],
)
def test_body_that_is_not_the_apis_own_is_refused(
    call: Callable[[Any], object], body: Any, said: str
) -> None:
    """A body in a client library's form would look alive and without a version: it is refused."""
    with pytest.raises(ConfigurationError) as refusal:
        call(body)
    assert said in str(refusal.value)


@pytest.mark.parametrize("make", [json_patch, merge_patch])
def test_body_is_not_changed(make: Callable[..., object]) -> None:
    """The body that a change is made for stays as it was read."""
    body = body_with(OWN, OTHER, OWN)
    before = copy.deepcopy(body)
    make(body, add=THIRD, remove=OWN)
    assert body == before


names = st.sampled_from([OWN, OTHER, THIRD, f"{OWN}.backups"])
changes = st.one_of(
    st.fixed_dictionaries({"add": names}),
    st.fixed_dictionaries({"remove": names}),
    st.fixed_dictionaries({"add": names, "remove": names}).filter(
        lambda change: change["add"] != change["remove"]
    ),
)


def _patched(body: Body, operations: list[Body]) -> list[str]:
    """The list after a JSON Patch, where a field that is not there is null, as to an API server."""
    body = {"metadata": {"finalizers": None, **body["metadata"]}}
    return jsonpatch.apply_patch(body, operations)["metadata"].get("finalizers") or []


def _merged(body: Body, patch: Body) -> list[str]:
    return {**body["metadata"], **patch.get("metadata", {})}.get("finalizers") or []


@PROPERTY
@given(st.lists(names, max_size=7), changes, st.booleans())
def test_any_list_changes_in_ones_own_entries_only(
    before: list[str], change: dict[str, str], deleting: bool
) -> None:
    """Whatever the list holds, others' entries stay in their order, and both patches agree."""
    body = body_with(*before, **({"deletionTimestamp": "x"} if deleting else {}))
    after = _patched(body, json_patch(body, **change))
    assert _merged(body, merge_patch(body, **change)) == after

    added, removed = change.get("add"), change.get("remove")
    assert [name for name in after if name not in (added, removed)] == [
        name for name in before if name not in (added, removed)
    ]
    if deleting and added is not None and added not in before:
        assert after == before, "none can come to an object being deleted: so none goes for it"
    else:
        assert removed not in after
    if added is not None:
        expected = max(before.count(added), 0 if deleting else 1)
        assert after.count(added) == expected
    assert json_patch({"metadata": {**body["metadata"], "finalizers": after}}, **change) == []


@PROPERTY
@given(st.lists(names, max_size=5), st.lists(names, max_size=5), changes)
def test_json_patch_over_another_list_fails_or_changes_ones_own_only(
    read: list[str], meanwhile: list[str], change: dict[str, str]
) -> None:
    """Whatever happened since the object was read, nobody else's entry is lost or moved."""
    try:
        after = _patched(body_with(*meanwhile), json_patch(body_with(*read), **change))
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException):
        return
    own = set(change.values())
    assert [name for name in after if name not in own] == [
        name for name in meanwhile if name not in own
    ]
