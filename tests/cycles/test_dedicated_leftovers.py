"""What Kopf could not send in the cycle before, and finds again in the next one.

A conflict, a marker taken off by somebody, an object deleted meanwhile: hard to bring about with
real operators.
"""

import functools
import logging
from typing import Any

import kopf
import pytest
from kopf._cogs.structs.finalizers import block_deletion

from kopf_finalizers._changes import AddFinalizer, RemoveFinalizer

from ..support.dedicated import (
    BACKUPS,
    BUCKETS,
    LATER,
    OTHER,
    OWN,
    Operator,
    alive,
    annotations_of,
    deleting,
    leftover,
    messages,
    touched,
)
from ..support.servers import Body


def test_addition_left_over_is_dropped_when_no_handler_wants_it_any_more() -> None:
    """An object that stopped matching before the addition was sent does not get it."""
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("h"))
    outcome = operator.cycle(alive(OTHER), leftover=leftover(AddFinalizer(BACKUPS)))
    assert outcome.patch.fns == []
    assert outcome.finalizers() == [OTHER]


def test_removal_left_over_is_dropped_when_a_handler_wants_it_again() -> None:
    """An object that matches again before the removal was sent keeps its finalizer."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("h"))
    outcome = operator.cycle(alive(BACKUPS), leftover=leftover(RemoveFinalizer(BACKUPS)))
    assert outcome.finalizers() == [BACKUPS]


@pytest.mark.parametrize("decorators", ["ours", "Kopf's"])
@pytest.mark.parametrize("change", ["add", "remove"])
def test_change_by_hand_that_is_left_over_keeps_no_cleanup_from_its_call(
    decorators: str, change: str
) -> None:
    """Somebody deleted the object, or was faster: Kopf would wait for an event that never comes."""
    operator = Operator()

    @(
        operator.finalizers.on.event("things")
        if decorators == "ours"
        else kopf.on.event("things", registry=operator.registry)
    )
    def by_hand(patch: kopf.Patch, **_: Any) -> None:
        getattr(operator.finalizers, change)(patch, "backups")

    kopf.on.delete("things", registry=operator.registry)(operator.handler("delete"))
    body = alive(BACKUPS, OWN) if change == "remove" else alive(OWN)
    left = operator.cycle(body).patch
    assert left.fns
    outcome = operator.cycle(deleting(OWN), leftover=leftover(*left.fns))
    assert touched(outcome)
    assert operator.calls == []
    operator.cycle(outcome.after())
    assert operator.calls == ["delete"]


def test_addition_left_over_is_not_made_twice() -> None:
    """After a conflict the addition is there once."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("h"))
    first = operator.cycle(alive(OTHER))
    outcome = operator.cycle(alive("third.org/f", OTHER), leftover=first.patch)
    assert outcome.patch.fns == [AddFinalizer(BACKUPS)]
    assert not touched(outcome)


@pytest.mark.parametrize(
    ("body", "fn"),
    [
        (alive(BACKUPS), AddFinalizer(BACKUPS)),
        (alive(BACKUPS), lambda raw: None),
        (deleting(BACKUPS, OWN), AddFinalizer(BACKUPS)),
        (deleting(BACKUPS, OWN), lambda raw: None),
    ],
)
def test_leftovers_that_change_nothing_make_kopf_come_back(body: Body, fn: Any) -> None:
    """Kopf calls no handler in a cycle with leftovers: where nothing is sent, no other follows."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.start()
    if "deletionTimestamp" not in body["metadata"]:
        body = alive(BACKUPS, OWN)
    outcome = operator.cycle(body, leftover=leftover(fn))
    assert operator.calls == []
    assert touched(outcome)
    next_one = operator.cycle(outcome.after())
    assert operator.calls == ["backups" if body["metadata"].get("deletionTimestamp") else "created"]
    assert next_one.patch


def test_each_wake_up_is_a_change_of_the_object() -> None:
    """A second wake-up is a change too, so that an event follows it."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    first = operator.cycle(alive(BACKUPS), leftover=leftover(lambda raw: None)).after()
    second = operator.cycle(first, leftover=leftover(lambda raw: None)).after()
    assert first["metadata"]["annotations"] != second["metadata"]["annotations"]


def test_leftovers_with_an_effect_need_no_wake_up() -> None:
    """Where a leftover changes something, the event of that change brings Kopf back."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    fn = functools.partial(_label, "a")
    outcome = operator.cycle(alive(BACKUPS), leftover=leftover(fn))
    assert not touched(outcome)
    assert outcome.after()["metadata"]["labels"] == {"a": "yes"}


def _label(name: str, raw: Any) -> None:
    raw["metadata"].setdefault("labels", {})[name] = "yes"


def _finalize(name: str, raw: Any) -> None:
    raw["metadata"].setdefault("finalizers", []).append(name)


def test_no_wake_up_without_leftovers() -> None:
    """A cycle that begins with nothing left over is not touched."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created", LATER))
    assert not touched(operator.cycle(alive(BACKUPS)))


def test_leftovers_that_an_api_server_would_refuse_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On an object being deleted an addition would make the whole patch fail, for ever."""
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    users, kopfs = (
        functools.partial(_finalize, "mine.org/f"),
        functools.partial(block_deletion, finalizer=OWN),
    )
    kept = functools.partial(_label, "a")
    fns = [AddFinalizer(BACKUPS), AddFinalizer(BUCKETS), users, kopfs, kept]
    outcome = operator.cycle(deleting(BACKUPS), leftover=leftover(*fns))
    assert outcome.patch.fns == [kept, RemoveFinalizer(BACKUPS)]
    dropped = [m for m in messages(caplog, logging.DEBUG) if m.startswith("Dropping")]
    assert len(dropped) == 2
    assert "mine.org/f" in dropped[0]
    assert OWN in dropped[1]


def test_leftovers_are_not_tried_out_on_the_body_itself() -> None:
    """What a leftover would do is found out on a copy: the body that handlers see stays."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    body = deleting(BACKUPS, OWN)
    operator.cycle(body, leftover=leftover(functools.partial(_finalize, "mine.org/f")))
    assert body["metadata"]["finalizers"] == [BACKUPS, OWN]


def test_functions_of_this_cycle_are_kept_on_an_object_being_deleted() -> None:
    """Only leftovers are looked through: what a handler has just put there is its own affair."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    fn = functools.partial(_finalize, "mine.org/f")

    @operator.finalizers.on.event("things")
    def event(patch: kopf.Patch, **_: Any) -> None:
        patch.fns.append(fn)

    assert fn in operator.cycle(deleting(BACKUPS, OWN)).patch.fns


def test_release_left_over_is_sent_with_its_progress() -> None:
    """After a conflict the release and the progress go again, together, and nothing runs twice."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    first = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    fresh = deleting(OTHER, BACKUPS, BUCKETS, OWN, labels={"a": "b"})
    second = operator.cycle(fresh, leftover=first.patch)
    assert operator.calls == ["backups", "buckets"]
    assert second.finalizers() == [OTHER, BUCKETS, OWN]
    assert annotations_of(second.after()) == {"backups", "buckets"}
    operator.cycle(second.after())
    assert operator.calls.count("backups") == 1


def test_additions_by_hand_are_left_alone_while_the_object_lives() -> None:
    """A finalizer that no handler has declared is the user's: left over or not, it is sent."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    fn = AddFinalizer(f"{OWN}.by-hand")
    outcome = operator.cycle(alive(BACKUPS), leftover=leftover(fn))
    assert outcome.patch.fns == [fn]
