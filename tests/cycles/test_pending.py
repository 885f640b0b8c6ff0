"""What daemons and timers change by hand: Kopf keeps nothing of it for the object's next cycle."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import Finalizers
from kopf_finalizers._changes import AddFinalizer
from kopf_finalizers._dedicated import sent

from ..support.dedicated import BACKUPS, BUCKETS, OWN, Operator, alive, deleting
from ..support.servers import Body


def lost(body: Body, *changes: Callable[[kopf.Patch], None]) -> None:
    """A daemon changes the object with its last call, and Kopf cannot send that."""
    patch = kopf.Patch(body=kopf.Body(cast("kopf.RawBody", body)))
    for change in changes:
        change(patch)
    patch.as_json_patch(cast("kopf.RawBody", body))


def adding(finalizers: Finalizers, purpose: str) -> Callable[[kopf.Patch], None]:
    return lambda patch: finalizers.add(patch, purpose)


def removing(finalizers: Finalizers, purpose: str) -> Callable[[kopf.Patch], None]:
    return lambda patch: finalizers.remove(patch, purpose)


def test_an_addition_that_was_lost_goes_with_the_next_cycle() -> None:
    """Once: from then on it is the cycle's."""
    operator = Operator()
    operator.start()
    lost(alive(), adding(operator.finalizers, "backups"))
    outcome = operator.cycle(alive())
    assert outcome.patch.fns == [AddFinalizer(BACKUPS)]
    assert outcome.finalizers() == [BACKUPS]
    assert operator.cycle(alive()).patch.fns == []


def test_a_removal_that_was_lost_lets_an_object_go() -> None:
    """Also one that is being deleted."""
    operator = Operator()
    operator.start()
    body = deleting(BACKUPS)
    lost(body, removing(operator.finalizers, "backups"))
    assert operator.cycle(body).finalizers() == []


def test_what_has_come_through_is_not_sent_again() -> None:
    """Nor is it done again when somebody undoes it later."""
    operator = Operator()
    operator.start()
    lost(alive(), adding(operator.finalizers, "backups"))
    assert not operator.cycle(alive(BACKUPS)).patch
    assert not operator.cycle(alive()).patch


def test_the_last_change_of_a_finalizer_counts() -> None:
    """And others are as they are."""
    operator = Operator()
    operator.start()
    finalizers = operator.finalizers
    lost(alive(), adding(finalizers, "backups"), removing(finalizers, "backups"))
    lost(alive(), adding(finalizers, "buckets"))
    assert operator.cycle(alive()).finalizers() == [BUCKETS]


def test_nothing_is_kept_of_an_object_that_has_gone() -> None:
    """Another one comes under another uid."""
    operator = Operator()
    operator.start()
    lost(alive(), adding(operator.finalizers, "backups"))
    operator.cycle(alive(), type="DELETED")
    assert not operator.cycle(alive()).patch


def test_an_object_of_which_nothing_is_heard_is_woken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon's change that is refused is followed by no event, as a cycle's is not."""
    monkeypatch.setattr(sent, "PAUSES", (0.001,))
    asked = list[Any]()

    async def patch_object(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments[2])
        return {"metadata": arguments[1]}

    monkeypatch.setattr(sent, "patch_object", patch_object)
    operator = Operator()
    daemons = list[asyncio.Task[None]]()

    async def spawn(body: kopf.Body, **_: Any) -> None:
        async def daemon() -> None:
            lost(dict(body), adding(operator.finalizers, "backups"))
            async with asyncio.timeout(10):
                while not asked:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

        daemons.append(asyncio.create_task(daemon()))
        await daemons[0]

    operator.on.event("things")(spawn)
    operator.on.create("things", finalizer="buckets")(operator.handler("create"))
    operator.cycle(alive(OWN, BUCKETS))
    assert "touch-dummy" in str(asked[0])
