"""Where records are in each release of a rename: in one place, whatever storages these are."""

import asyncio
import json
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers._moves import AGAIN, Moves
from kopf_finalizers._renames.places import Place
from kopf_finalizers._renames.records import (
    HomeDiffBase,
    HomeProgress,
    Records,
    RecordsInPlace,
)
from kopf_finalizers._resources import handler_ids

from ..support.kopf_cycles import finalizers_of
from ..support.renamed import (
    KOPF,
    KOPFS_PLACE,
    NEW,
    OWN_PLACE,
    ROLLOUTS,
    Busy,
    Operator,
    WritingBothPlaces,
    annotations_of,
    deleted,
    edited,
    handled_by_plain_kopf,
    places_of,
    thing,
    unchanged,
)

HOME = {"recognise": KOPFS_PLACE, "switch": OWN_PLACE}


@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("kind", ["create", "update", "delete"])
@pytest.mark.parametrize("before", [Operator, WritingBothPlaces])
def test_all_records_are_in_one_place_once_any_is_written(
    before: type[Operator], kind: str, rollout: str
) -> None:
    """What is in flight, too, and whatever the release before has written."""
    body = thing(KOPF) if kind == "create" else handled_by_plain_kopf(KOPF)
    body = {"update": edited, "delete": deleted}.get(kind, dict)(body)
    first = before()
    first.failing = kopf.TemporaryError("busy", delay=0)
    body = first.step(body)
    second = Operator(former=[KOPF], rollout=rollout)
    second.failing = first.failing
    assert places_of(second.step(body)) == {HOME[rollout]}
    assert first.calls + second.calls == [(kind, 0), (kind, 1)]


@pytest.mark.parametrize("how", [edited, deleted, unchanged])
@pytest.mark.parametrize("path", ["plain recognise switch", "switch recognise plain"])
def test_no_version_of_an_object_has_records_in_two_places(path: str, how: Any) -> None:
    """Through all releases, forwards and back."""
    first, *others = path.split()
    body = thing()
    for number, release in enumerate([first, *others]):
        options: dict[str, Any] = {"former": [KOPF], "rollout": release}
        operator = Operator(**(options if release != "plain" else {}))
        operator.failing = kopf.TemporaryError("busy", delay=0) if number else None
        for _ in range(4):
            body = operator.step(body)
            assert len(places_of(body)) <= 1
        body = how(body) if number == 0 else body


def test_a_creation_that_waits_is_not_ended_by_another_operators_last_state() -> None:
    """With a former place that is shared, after a restart too."""
    options: dict[str, Any] = {"former": [KOPF], "former_is_shared": True}
    for rollout in ROLLOUTS:
        before = Busy(busy="create", **options, rollout=rollout)
        body = before.step(before.step(thing()))
        body = Operator().settle(body)
        assert f"{KOPFS_PLACE}/last-handled-configuration" in annotations_of(body)
        after = Busy(**options, rollout=rollout)
        after.settle(body)
        assert before.calls == [("create one", 0), ("create two", 0)]
        assert after.calls == [("create two", 1)]


def test_a_half_moved_object_of_before_is_read_from_both_places() -> None:
    """Up to 0.1, a kill could leave the last state in one place and progress in the other."""
    plain = Busy(busy="update")
    body = plain.step(edited(handled_by_plain_kopf(KOPF)))
    annotations = body["metadata"]["annotations"]
    state = annotations.pop(f"{KOPFS_PLACE}/last-handled-configuration")
    annotations[f"{OWN_PLACE}/last-handled-configuration"] = state
    for rollout in ROLLOUTS:
        operator = Busy(former=[KOPF], rollout=rollout)
        settled = operator.settle(body)
        assert operator.calls == [("update two", 1)]
        assert places_of(settled) == {HOME[rollout]}


def test_what_another_operator_writes_beside_the_own_record_is_not_believed() -> None:
    """Also on an object that was there before the process, and had no record by then."""
    operator = Operator(former=[KOPF])
    body = operator.settle(thing())
    state = {f"{KOPFS_PLACE}/last-handled-configuration": json.dumps({"spec": {"size": 7}})}
    body["metadata"]["annotations"] |= state
    body = operator.settle(body)
    assert operator.calls == [("create", 0)]
    assert annotations_of(body).items() >= state.items()


def test_an_object_that_is_moved_back_is_known_though_it_is_young() -> None:
    """Nobody but this operator takes its own record away: another release of it runs, too."""
    switching = Operator(former=[KOPF])
    body = switching.settle(thing(creationTimestamp="2999-01-01T00:00:00Z"))
    body = Operator(former=[KOPF], rollout="recognise").settle(body)
    assert places_of(body) == {KOPFS_PLACE}
    switching.settle(body)
    assert switching.calls == [("create", 0)]


# Two releases side by side


def side_by_side(body: dict[str, Any], *operators: Operator) -> tuple[dict[str, Any], int]:
    """The object at rest, and how often it was written."""
    writes = 0
    for _ in range(20):
        before = body
        for operator in operators:
            changed = operator.step(body)
            writes += changed != body
            body = changed
        if body == before:
            return body, writes
    raise AssertionError("they do not come to rest")


def both_releases() -> list[Operator]:
    return [Operator(former=[KOPF], rollout=cast("Any", one)) for one in ROLLOUTS]


@pytest.mark.parametrize("is_new", [False, True])
def test_two_releases_side_by_side_come_to_rest(is_new: bool) -> None:
    """Each moves an object once; changes are handled meanwhile, wherever its records are."""
    both, body = both_releases(), thing() if is_new else handled_by_plain_kopf(KOPF)
    body, writes = side_by_side(body, *both)
    assert writes <= (6 if is_new else 4)
    for _ in range(3):
        body, writes = side_by_side(edited(body), *both)
        assert writes <= 2
    assert len(places_of(body)) == 1


def test_an_object_is_moved_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then the other release has gone."""
    both = both_releases()
    body, _ = side_by_side(handled_by_plain_kopf(KOPF), *both)
    assert finalizers_of(body) == [KOPF]
    now = 1000.0
    monkeypatch.setattr("kopf_finalizers._moves.time.monotonic", lambda: now)
    switching = Operator(former=[KOPF])
    body = Operator(former=[KOPF], rollout="recognise").settle(switching.settle(body))
    now += AGAIN - 1
    assert finalizers_of(switching.settle(body)) == [KOPF]
    now += 1
    assert finalizers_of(switching.settle(body)) == [NEW]
    assert switching.calls == []


def test_a_move_is_tried_once_more_where_nothing_was_seen_of_it() -> None:
    """Its request may never have arrived; or the other release was faster, so not again."""
    versions = [kopf.Body(cast("Any", thing(resourceVersion=str(one)))) for one in range(5)]

    async def play() -> None:
        moves, arrived = (Moves(kopf.OperatorSettings()) for _ in range(2))
        for body in versions[:2]:
            for _ in range(2):  # each may be asked for in several cycles
                assert moves.may_make(body)
                moves.make(body)
        assert not moves.may_make(versions[2])
        arrived.make(versions[0])
        arrived.see(versions[1])
        assert not arrived.may_make(versions[2])

    asyncio.run(play())


# Other storages


class Kept(Operator):
    """An operator whose records move between two places of any kind."""

    def __init__(self, own: Place, former: Place, *, is_back: bool) -> None:
        super().__init__()
        self.records = Records(
            own,
            former,
            is_back=is_back,
            shared=False,
            moves=Moves(self.settings),
            handler_ids=lambda: handler_ids(self.registry),
        )
        self.settings.persistence.progress_storage = HomeProgress(self.records)
        self.settings.persistence.diffbase_storage = HomeDiffBase(self.records)


def annotated_place(prefix: str = "a.org", **options: Any) -> Place:
    return Place(
        kopf.AnnotationsProgressStorage(prefix=prefix),
        kopf.AnnotationsDiffBaseStorage(prefix=prefix, **options),
    )


def status_place() -> Place:
    return Place(kopf.StatusProgressStorage(name="op"), kopf.StatusDiffBaseStorage(name="op"))


def kept_in(place: Place) -> Operator:
    operator = Operator()
    operator.settings.persistence.progress_storage = place.progress
    operator.settings.persistence.diffbase_storage = place.diffbase
    return operator


MIXED = Place(kopf.SmartProgressStorage(), kopf.StatusDiffBaseStorage(name="op"))
PLACES = {
    "annotations": annotated_place(),
    "status": status_place(),
    "one of each": MIXED,
    "several": Place(
        kopf.MultiProgressStorage([status_place().progress, annotated_place("b.org").progress]),
        kopf.MultiDiffBaseStorage([status_place().diffbase, annotated_place("b.org").diffbase]),
    ),
}


@pytest.mark.parametrize("former", PLACES)
@pytest.mark.parametrize("own", PLACES)
@pytest.mark.parametrize("is_back", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_records_move_between_any_two_places(
    own: str, former: str, is_back: bool, busy: bool
) -> None:
    """And back: nothing is called again, nothing stays where it was, and retries go on."""
    here, there = (own, former) if is_back else (former, own)
    first = kept_in(PLACES[here])
    body = first.settle(thing())
    first.failing = kopf.TemporaryError("busy", delay=0) if busy else None
    body = first.step(edited(body)) if busy else body
    operator = Kept(PLACES[own], PLACES[former], is_back=is_back)
    operator.failing = first.failing
    body = operator.step(edited(body))
    body = operator.step(body)
    last = kept_in(PLACES[there])
    body = last.settle(body)
    calls = operator.calls + last.calls
    expected = [("update", number) for number in range(busy, 4 if busy else 1)]
    assert calls == expected
    keys = operator.records.keys(kopf.Body(cast("Any", body)))
    left = operator.records._in_other(keys, kopf.Body(cast("Any", body)))
    assert left == []


def test_records_in_a_json_patch_are_written_and_removed_in_place() -> None:
    """Whatever the body has by then; what is left over yields to what is written since."""
    first, values = kopf.Patch(), {("metadata", "annotations", "a.b/c"): "1", ("status", "x"): None}
    fn = RecordsInPlace(first, values)
    body: Any = {"metadata": {}, "status": {"x": {}, "y": {}}}
    for _ in range(2):
        fn(body)
        assert body == {"metadata": {"annotations": {"a.b/c": "1"}}, "status": {"y": {}}}
    assert repr(fn) == "RecordsInPlace(['metadata.annotations.a.b/c', 'status.x'])"
    later = kopf.Patch({"metadata": {"annotations": {"a.b/c": "2"}}})
    for _ in range(2):
        fn.take_up(later)
        assert later == {"metadata": {"annotations": {"a.b/c": "2"}}, "status": {"x": None}}
    assert not fn.values


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_progress_of_a_deletion_does_not_move_with_an_object_that_is_alive(rollout: str) -> None:
    """It was restored from a backup that was made in the middle of its deletion."""
    plain = Busy(busy="delete")
    body = plain.step(deleted(handled_by_plain_kopf(KOPF)))
    body["metadata"].pop("deletionTimestamp")
    operator = Busy(former=[KOPF], rollout=rollout)
    body = operator.settle(edited(body))
    assert not [key for key in annotations_of(body) if "delete" in key]
    operator.settle(deleted(body))
    assert [call for call in operator.calls if "delete" in call[0]] == [
        ("delete one", 0),
        ("delete two", 0),
    ]
