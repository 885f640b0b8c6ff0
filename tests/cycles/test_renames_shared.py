"""Whose a record in the former place is, and other operators that keep theirs there."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf
import pytest

from ..support.kopf_cycles import finalizers_of
from ..support.renamed import (
    KOPF,
    KOPFS_PLACE,
    LONG_AGO,
    NEW,
    OTHER,
    OWN_PLACE,
    ROLLOUTS,
    Operator,
    WritingBothPlaces,
    annotations_of,
    deleted,
    edited,
    handled,
    handled_by_plain_kopf,
    places_of,
    thing,
)

# Whose record it is


@pytest.mark.parametrize(
    ("rollout", "age", "believed"),
    [
        ("recognise", -1, True),
        ("recognise", 60, True),
        ("recognise", None, True),
        ("switch", -1, False),
        ("switch", 60, True),
        ("switch", None, True),
    ],
)
def test_a_former_record_of_an_object_younger_than_the_process_is_not_believed(
    age: int | None, believed: bool, rollout: str
) -> None:
    """A process that writes the own place would have done so; where it is the former, it is its."""
    operator = Operator(former=[KOPF], rollout=rollout)
    body = handled_by_plain_kopf(KOPF)
    created = datetime.now(UTC) - timedelta(seconds=age or 0)
    body["metadata"]["creationTimestamp"] = created.isoformat() if age else None
    if age is None:
        del body["metadata"]["creationTimestamp"]
    operator.settle(body)
    assert operator.calls == ([] if believed else [("create", 0)])


def test_what_comes_back_after_a_move_is_somebody_elses() -> None:
    """It is left where it is, and hides no change from this operator."""
    operator = Operator(former=[KOPF])
    body = operator.settle(handled_by_plain_kopf(KOPF))
    body = edited(body)
    state = {f"{KOPFS_PLACE}/last-handled-configuration": json.dumps({"spec": body["spec"]})}
    body["metadata"]["annotations"] |= state
    body["metadata"]["finalizers"].append(KOPF)
    body = operator.settle(body)
    assert operator.calls == [("update", 0)]
    assert finalizers_of(body) == [NEW, KOPF]
    assert annotations_of(body).items() >= state.items()


def test_progress_of_another_operator_on_a_young_object_is_left_alone() -> None:
    """A handler of the same name in Kopf's default place: it is not this operator's."""
    record = {f"{KOPFS_PLACE}/create": json.dumps({"started": LONG_AGO, "retries": 7})}
    operator = Operator(former=[KOPF])
    new = thing(creationTimestamp="2999-01-01T00:00:00Z", annotations=record)
    body = operator.settle(new)
    assert operator.calls == [("create", 0)]
    assert annotations_of(body).items() >= record.items()


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_progress_is_cleared_in_both_places(rollout: str) -> None:
    """Where a first release has written it, as this library had it up to 0.1."""
    operator = WritingBothPlaces()
    operator.failing = kopf.TemporaryError("busy", delay=0)
    body = operator.step(thing(KOPF))
    assert {f"{KOPFS_PLACE}/create", f"{OWN_PLACE}/create"} <= annotations_of(body).keys()
    following = Operator(former=[KOPF], rollout=rollout)
    body = following.settle(body)
    assert operator.calls + following.calls == [("create", 0), ("create", 1)]
    assert not [key for key in annotations_of(body) if key.endswith("/create")]
    assert places_of(body) == {KOPFS_PLACE if rollout == "recognise" else OWN_PLACE}


@pytest.mark.parametrize("way", ["deletionTimestamp", "DELETED"])
def test_an_object_that_goes_is_forgotten(way: str) -> None:
    """An operator that runs for months remembers only what is there."""
    operator = Operator(former=[KOPF])
    assert operator.finalizers is not None
    (mover,) = cast("Any", operator.finalizers._application._renaming)._movers
    body = operator.settle(handled_by_plain_kopf(KOPF))
    body = operator.settle(edited(body))
    known = [mover._moves._made, mover._records._written]
    assert [list(one) for one in known] == [[body["metadata"]["uid"]]] * 2
    if way == "DELETED":
        operator.cycle(body, type="DELETED")
    else:
        operator.settle(deleted(body))
    assert not any(known)


# Another operator with Kopf's default names on the same objects


class Both:
    """This operator and one with Kopf's default names, in turns on one object."""

    def __init__(self, **options: Any) -> None:
        self.ours, self.theirs = Operator(**options), Operator()

    def settle(self, body: dict[str, Any]) -> dict[str, Any]:
        self.versions = 0
        for _ in range(20):
            before = body
            for operator in (self.theirs, self.ours):
                changed = operator.step(body)
                self.versions += changed != body
                body = changed
            if body == before:
                return body
        raise AssertionError("they do not come to rest")


SHARED: list[dict[str, Any]] = [
    {"former": [KOPF], "former_is_shared": True, "rollout": "recognise"},
    {"former": [KOPF], "former_is_shared": True},
    {"former": ()},
]


@pytest.mark.parametrize("options", SHARED)
def test_on_a_new_object_both_operators_are_called_once(options: dict[str, Any]) -> None:
    """In every release, and with few requests."""
    both = Both(**options)
    body = both.settle(thing(creationTimestamp="2999-01-01T00:00:00Z"))
    assert both.ours.calls == both.theirs.calls == [("create", 0)]
    assert places_of(body) == {KOPFS_PLACE, OWN_PLACE}
    assert KOPF in finalizers_of(body)
    assert both.versions <= 8
    both.settle(edited(body))
    assert both.ours.calls == both.theirs.calls == [("create", 0), ("update", 0)]


def test_records_and_marker_of_the_other_operator_stay_through_all_releases() -> None:
    """Nothing of either operator fires again, and the last release does not touch the marker."""
    body = handled_by_plain_kopf(KOPF)
    theirs = annotations_of(body)
    for options in SHARED:
        both = Both(**options)
        body = both.settle(body)
        assert both.versions <= 4
        assert both.ours.calls == both.theirs.calls == []
        assert annotations_of(body).items() >= theirs.items()
    assert sorted(finalizers_of(body)) == [KOPF, NEW]
    body = Operator(former=()).settle(deleted(body))
    assert finalizers_of(body) == [KOPF]


def test_the_marker_of_a_shared_object_is_taken_off_with_a_deletion_as_before() -> None:
    """Not promised, and no worse than it was: until the last release it is this operator's too."""
    for options in SHARED[:2]:
        ours = Operator(**options)
        body = ours.settle(deleted(handled_by_plain_kopf(KOPF)))
        assert finalizers_of(body) == []
        assert ours.calls == [("delete", 0)]


def test_the_marker_of_a_young_shared_object_is_the_other_operators() -> None:
    """This operator has never written it there, so it puts its own beside it."""
    ours = Operator(former=[KOPF], former_is_shared=True)
    body = ours.cycle(thing(OTHER, KOPF, creationTimestamp="2999-01-01T00:00:00Z")).after()
    assert finalizers_of(body) == [OTHER, KOPF, NEW]


def test_a_shared_object_comes_back_from_a_release_that_has_switched() -> None:
    """The new name is nobody else's, so the release before never meets it."""
    body = handled_by_plain_kopf(KOPF, NEW)
    ours = Operator(former=[KOPF], former_is_shared=True, rollout="recognise")
    body = ours.settle(body)
    assert finalizers_of(body) == [KOPF]
    # Nothing is written where the other operator would take it for its own.
    body["metadata"]["annotations"] = annotations_of(handled(KOPF))
    assert places_of(ours.settle(body)) == {OWN_PLACE}


def test_a_shared_handler_in_flight_goes_on_and_its_old_record_is_not_met_again() -> None:
    """It stays in the former place, whoever it belongs to, and no later change takes it up."""
    plain = Operator(handlers="create update")
    plain.failing = kopf.TemporaryError("busy", delay=0)
    body = plain.step(edited(handled_by_plain_kopf()))
    assert plain.calls == [("update", 0)]
    for rollout in ROLLOUTS:
        ours = Operator(
            handlers="create update", former=[KOPF], former_is_shared=True, rollout=rollout
        )
        settled = ours.settle(body)
        assert ours.calls == [("update", 1)]
        assert f"{KOPFS_PLACE}/update" in annotations_of(settled)
        ours.settle(edited(settled))
        assert ours.calls == [("update", 1), ("update", 0)]


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_an_operator_that_nobody_has_declared_is_not_fought(rollout: str) -> None:
    """Both come to rest, on new objects and on old ones, at each start and after each change."""
    for body in (thing(creationTimestamp="2999-01-01T00:00:00Z"), handled_by_plain_kopf(KOPF)):
        shared = body
        for _ in range(2):
            both = Both(former=[KOPF], rollout=rollout)
            shared = both.settle(shared)
            assert both.versions <= 12
            shared = both.settle(edited(shared))
            assert both.versions <= 12


def test_a_shared_handler_in_flight_goes_on_from_its_own_record() -> None:
    """The one in the former place stays there, and is older."""
    plain = Operator()
    plain.failing = kopf.TemporaryError("busy", delay=0)
    body = plain.step(edited(handled_by_plain_kopf(KOPF)))
    ours = Operator(former=[KOPF], former_is_shared=True, rollout="recognise")
    ours.failing = plain.failing
    for _ in range(3):
        body = ours.step(body)
    assert ours.calls == [("update", 1), ("update", 2), ("update", 3)]
