"""Handlers that wait for their retry while an operator is renamed."""

import itertools
import json
from typing import Any, cast

import kopf
import pytest

from ..support.kopf_cycles import finalizers_of, start
from ..support.renamed import (
    KOPF,
    KOPFS_PLACE,
    LONG_AGO,
    OTHER,
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


def test_progress_that_a_rollback_has_left_in_the_own_place_is_not_taken_up() -> None:
    """Or a handler that has succeeded then would be taken to have succeeded for a later change."""

    def operator(kind: type[Operator] = Operator, **options: Any) -> Operator:
        made = kind(**options)

        @kopf.on.update("things", id="another", registry=made.registry)
        def another(retry: int, **_: Any) -> None:
            made.calls.append(("another", retry))
            if made.failing:
                raise made.failing

        return made

    recognising = operator(WritingBothPlaces)
    body = edited(handled_by_plain_kopf(KOPF))
    recognising.failing = kopf.TemporaryError("busy", delay=0)
    body = recognising.step(body)
    assert f"{OWN_PLACE}/another" in annotations_of(body)
    body = operator().settle(body)
    for rollout, meanwhile in itertools.product(ROLLOUTS, [edited, unchanged]):
        again = operator(former=[KOPF], rollout=rollout)
        settled = again.settle(meanwhile(body))
        again.calls.clear()
        again.failing = kopf.TemporaryError("busy", delay=0)
        settled = again.step(again.step(edited(settled)))
        assert sorted(again.calls) == [(h, n) for h in ("another", "update") for n in (0, 1)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("kind", ["create", "update", "delete"])
def test_what_is_in_flight_goes_on_and_what_is_done_stays_done(
    kind: str, rollout: str, shared: bool
) -> None:
    """Whether or not another operator keeps records in the former place."""
    body = thing(KOPF) if kind == "create" else handled_by_plain_kopf(KOPF)
    body = {"update": edited, "delete": deleted}.get(kind, dict)(body)
    plain = Busy(busy=kind)
    body = plain.step(body)
    assert plain.calls == [(f"{kind} one", 0), (f"{kind} two", 0)]
    options: dict[str, Any] = {"former": [KOPF], "rollout": rollout, "former_is_shared": shared}
    busy, ready = Busy(busy=kind, **options), Busy(**options)
    body = busy.step(busy.step(body))
    ready.settle(body)
    calls = busy.calls + ready.calls
    assert calls == [(f"{kind} two", number) for number in range(1, len(calls) + 1)]
    assert len(ready.calls) == 1


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("kind", ["create", "update"])
@pytest.mark.parametrize("met", [False, True])
def test_a_deletion_in_the_middle_of_something_else_is_handled_once(
    kind: str, rollout: str, shared: bool, met: bool
) -> None:
    """Deleted while the operator was down, or after this release has gone on with the other."""
    body = thing(KOPF) if kind == "create" else edited(handled_by_plain_kopf(KOPF))
    body = Busy(busy=kind).step(body)
    options: dict[str, Any] = {"former": [KOPF], "rollout": rollout, "former_is_shared": shared}
    busy, ready = Busy(busy=f"{kind} delete", **options), Busy(**options)
    if met:
        body = busy.step(body)
        busy.calls.clear()
    body = deleted(body)
    for _ in range(3):
        body = busy.step(body)
    assert finalizers_of(ready.settle(body)) == []
    calls = busy.calls + ready.calls
    assert [number for what, number in calls if what == "delete one"] == [0]
    numbers = [number for what, number in calls if what == "delete two"]
    assert numbers == list(range(len(numbers)))
    assert not [what for what, _ in calls if not what.startswith("delete")]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("kind", ["create", "update"])
def test_a_cleanup_that_waits_is_not_called_before_its_time(
    kind: str, rollout: str, shared: bool
) -> None:
    """Also where what it has cut short is still in the former place, since that is shared."""
    body = thing(KOPF) if kind == "create" else edited(handled_by_plain_kopf(KOPF))
    plain = Operator()
    plain.failing = kopf.TemporaryError("busy", delay=0)
    body = deleted(plain.step(body))
    operator = Operator(former=[KOPF], rollout=cast("Any", rollout), former_is_shared=shared)
    operator.failing = kopf.TemporaryError("not yet", delay=3600)
    for _ in range(5):
        body = operator.step(body)
    assert operator.calls == [("delete", 0)]


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_a_creation_cut_short_does_not_undo_the_deletion_that_a_rollback_has_begun(
    rollout: str,
) -> None:
    """The release before knew the former place alone: it is what it left there that goes on."""
    calls = list[tuple[str, int]]()

    def operator(kind: type[Operator] = Operator, **options: Any) -> Operator:
        made = kind(**options)
        made.calls = calls
        made.failing = kopf.TemporaryError("busy", delay=0)

        @kopf.on.delete("things", id="done-at-once", registry=made.registry)
        def done_at_once(retry: int, **_: Any) -> None:
            made.calls.append(("done-at-once", retry))

        return made

    creating = operator(WritingBothPlaces).step(thing(KOPF))
    assert {f"{KOPFS_PLACE}/create", f"{OWN_PLACE}/create"} <= annotations_of(creating).keys()
    deleting = operator().step(deleted(creating))
    again = operator(former=[KOPF], rollout=rollout)
    again.step(again.step(deleting))
    assert sorted(calls) == [("create", 0), *(("delete", n) for n in range(3)), ("done-at-once", 0)]


def test_progress_that_is_written_in_the_cycle_that_moves_is_kept() -> None:
    """Also where an old record of the same handler stood in the own place."""
    body = edited(handled_by_plain_kopf(KOPF))
    record = json.dumps({"started": LONG_AGO, "purpose": "update", "retries": 7})
    ids = [f"handler-{number}" for number in range(3)]
    body["metadata"]["annotations"] |= {f"{OWN_PLACE}/{one}": record for one in ids}
    operator = Operator(handlers="delete", former=[KOPF])
    for one in ids:
        kopf.on.update("things", id=one, registry=operator.registry)(operator.noting(one))
    operator.failing = kopf.TemporaryError("busy", delay=0)
    body = operator.step(operator.step(body))
    assert sorted(operator.calls) == [(one, number) for one in ids for number in (0, 1)]


@pytest.mark.parametrize("kind", ["create", "update", "delete"])
@pytest.mark.parametrize(
    "path",
    [
        ["recognise", "switch", None],
        ["switch", "recognise", "plain"],
        ["recognise", "plain", "recognise", "plain", "switch"],
    ],
)
def test_retries_go_on_where_they_were(kind: str, path: list[str | None]) -> None:
    """Through every release, forwards and back, the number of the attempt goes up by one."""
    body = thing(KOPF) if kind == "create" else handled_by_plain_kopf(KOPF)
    body = {"update": edited, "delete": deleted}.get(kind, dict)(body)
    expected = 0
    for rollout in ["plain", *path]:
        options: dict[str, Any] = {"former": [KOPF], "rollout": rollout}
        if rollout is None:
            options = {"former": ()}
        operator = Operator(**(options if rollout != "plain" else {}))
        if kind == "delete" and rollout is None:
            continue  # it still carries the former name: see the page on adopting it
        operator.failing = kopf.TemporaryError("busy", delay=0)
        for _ in range(2):
            body = operator.step(body)
        assert operator.calls[0] == (kind, expected), rollout
        expected += len(operator.calls)


def test_a_handler_that_waits_is_moved_while_it_waits() -> None:
    """A retry in an hour is still that retry in the last release, which knows no other place."""
    plain = Operator()
    plain.failing = kopf.TemporaryError("busy", delay=3600)
    body = plain.settle(thing(KOPF))
    assert f"{KOPFS_PLACE}/create" in annotations_of(body)
    body = Operator(former=[KOPF]).settle(body)
    assert places_of(body) == {OWN_PLACE}
    last = Operator(former=())
    assert last.cycle(body).delays[0] > 3000
    back = Operator(former=[KOPF], rollout="recognise")
    body = back.settle(body)
    assert plain.cycle(body).delays[0] > 3000
    assert last.calls == back.calls == []
    assert plain.calls == [("create", 0)]


def test_a_cleanup_that_waits_is_given_back_on_the_way_back() -> None:
    """What release two has begun waits for the same time in the release before release one."""
    switching = Operator(former=[KOPF])
    switching.failing = kopf.TemporaryError("busy", delay=3600)
    body = switching.step(deleted(handled_by_plain_kopf(KOPF)))
    assert places_of(body) == {OWN_PLACE}
    back, plain = Operator(former=[KOPF], rollout="recognise"), Operator()
    body = back.settle(body)
    assert finalizers_of(body) == [KOPF]
    assert plain.cycle(body).delays[0] > 3000
    assert switching.calls == [("delete", 0)]
    assert back.calls == plain.calls == []


@pytest.mark.parametrize(("begun", "ended"), [("recognise", "switch"), ("switch", "recognise")])
def test_nothing_is_left_of_a_deletion_that_another_release_has_begun(
    begun: str, ended: str
) -> None:
    """Records of all its handlers go from both places, however many there are."""
    carried = deleted(handled_by_plain_kopf(OTHER, KOPF))
    body = Busy("delete", former=[KOPF], rollout=begun).step(carried)
    assert [key for key in annotations_of(body) if "/delete_" in key]
    body = Busy(former=[KOPF], rollout=ended).settle(body)
    assert finalizers_of(body) == [OTHER]
    assert [key for key in annotations_of(body) if "/delete_" in key] == []


def test_nothing_is_left_of_sub_handlers_that_a_rollback_has_replaced() -> None:
    """One that is taken away and comes back is called, whatever was done of it before."""
    calls = list[str]()

    def release(busy: str = "", **options: Any) -> Operator:
        made = Operator(handlers="delete", **options)

        def items(spec: kopf.Spec, **_: Any) -> None:
            for item in spec["items"]:

                def handle(item: str = item, **_: Any) -> None:
                    calls.append(item)
                    if item == busy:
                        raise kopf.TemporaryError("busy", delay=0)

                kopf.subhandler(id=item)(handle)

        kopf.on.update("things", id="items", registry=made.registry)(items)
        return made

    def with_items(body: dict[str, Any], *items: str) -> dict[str, Any]:
        return {**body, "spec": {"items": list(items)}}

    one: dict[str, Any] = {"former": [KOPF], "rollout": "recognise"}
    body = with_items(handled_by_plain_kopf(KOPF), "gone", "busy")
    body = release(busy="busy", **one).step(body)
    assert calls == ["gone", "busy"]
    body = release().settle(body)
    body = release(**one).settle(with_items(body, "busy"))
    body = release(former=[KOPF]).settle(body)
    assert not [key for key in annotations_of(body) if "items" in key]
    calls.clear()
    release(former=()).settle(with_items(body, "gone", "busy"))
    assert sorted(calls) == ["busy", "gone"]


def test_sub_handlers_go_on_where_they_were() -> None:
    """What is done is not done again, of all levels."""
    calls = list[str]()

    def operator(*, fails: bool, **options: Any) -> Operator:
        made = Operator(handlers="", **options)

        @kopf.on.create("things", registry=made.registry, id="create")
        def create(**_: Any) -> None:
            @kopf.subhandler(id="done")
            def done(**_: Any) -> None:
                calls.append("done")

            @kopf.subhandler(id="again")
            def again(**_: Any) -> None:
                calls.append("again")
                if fails:
                    raise kopf.TemporaryError("busy", delay=0)

        start(made.registry)
        return made

    body = operator(fails=True).step(thing())
    assert {key for key in annotations_of(body) if "done" in key} == {
        f"{KOPFS_PLACE}/create.done",
    }
    moving = operator(fails=True, former=[KOPF])
    body = moving.step(body)
    assert places_of(body) == {OWN_PLACE}
    operator(fails=False, former=()).settle(body)
    assert calls == ["done", "again", "again", "again"]
