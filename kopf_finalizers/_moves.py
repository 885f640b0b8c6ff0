"""Which objects a process has moved to other names: each once, and again after a while.

Two releases of an operator may run side by side, as in a Deployment's rolling update. One would
move an object forwards and the other back, without end. So each process moves an object once, and
again after ten minutes: then the other one has gone, and what it has undone, or what a server has
refused, is done again. A request that never arrived is made once more at once.

No event may come after these ten minutes. So an object that is not as it should be by then is woken
up with the smallest write.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import kopf

from ._bodies import metadata_of, name_of
from ._kopf import RefusedError, find_resource, patch_object
from ._later import logger_of, small, smallest_write
from ._settings import logger

AGAIN = 600.0
"""Seconds after which an object is moved again."""

REFUSED = 60.0
"""Seconds after which an object is woken up again where a server has refused that."""


@dataclass
class _Move:
    version: str
    """What the object was before."""
    made: float
    tries: int = 1
    arrived: bool = False
    waits: kopf.Body | None = None
    """The object as it was seen last, if it was not yet as it should be."""
    timer: asyncio.TimerHandle | None = None
    task: "asyncio.Task[None] | None" = None

    def rest(self) -> None:
        """Nothing is to be done later."""
        for one in (self.timer, self.task):
            if one is not None:
                one.cancel()


@dataclass
class Moves:
    """What a process knows of the objects that it has moved.

    Args:
        settings: Those of the operator, by which objects are woken up.
    """

    settings: kopf.OperatorSettings
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _made: dict[str, _Move] = field(default_factory=dict)
    _told: set[tuple[str, str, str]] = field(default_factory=set)

    def is_younger(self, body: kopf.Body) -> bool:
        """Whether the object was created after the process has started."""
        created = body["metadata"].get("creationTimestamp")
        return created is not None and datetime.fromisoformat(created) > self.started

    def look_at_birth(self, body: kopf.Body, former: Iterable[str], written: str) -> None:
        """Warn, once for each resource and name, of an object that was made with a former name.

        This process has not put it on: so somebody makes such objects, and will go on doing so.
        """
        if not self.is_younger(body):
            return
        for name in former:
            told = (str(body.get("apiVersion")), str(body.get("kind")), name)
            if told not in self._told:
                self._told.add(told)
                logger.warning(
                    "Objects of %s %s are made with the former finalizer %s on them (%s is one)."
                    " This release puts %s in its place. The release after it does not know it, so"
                    " such an object would hang when it is deleted. Before that, have whatever"
                    " makes them, a chart, GitOps or code, write the new name; code of this"
                    " operator finds it in finalizers.written. [born-former]",
                    *told,
                    name_of(body),
                    written,
                )

    def is_made(self, body: kopf.Body) -> bool:
        """Whether this process has moved the object before, and something has come of it."""
        uid, version = _version(body)
        return uid in self._made and self._made[uid].version != version

    def may_make(self, body: kopf.Body) -> bool:
        """Whether this process may move the object now; if not, it is seen again when it may."""
        uid, version = _version(body)
        move = self._made.get(uid)
        if move is None or move.version == version or time.monotonic() - move.made >= AGAIN:
            return True
        if not move.arrived and move.tries == 1:
            return True
        move.waits = small(body)
        return False

    def make(self, body: kopf.Body) -> None:
        """Note that the object is being moved; safe to call again."""
        uid, version = _version(body)
        known, now = self._made.get(uid), time.monotonic()
        if known is None or now - known.made >= AGAIN:
            self.forget(body)
            known = self._made[uid] = _Move(version, now)
            self._look_later(known, AGAIN)
        elif known.version != version:
            known.version, known.tries = version, known.tries + 1
        known.waits = small(body)

    def see(self, body: kopf.Body) -> None:
        """Note an object on which there is nothing to be moved."""
        if self.is_made(body):
            move = self._made[_version(body)[0]]
            move.arrived = True
            # Somebody else may have something to move on it, as it is now.
            if move.waits is not None and _version(move.waits) != _version(body):
                move.waits = None

    def forget(self, body: kopf.Body) -> None:
        """Forget an object that is going."""
        move = self._made.pop(_version(body)[0], None)
        if move is not None:
            move.rest()

    def rest(self) -> "list[asyncio.Task[None]]":
        """The operator stops; returns what is being sent, and breaks off."""
        tasks = [one.task for one in self._made.values()]
        sending = [task for task in tasks if task is not None and not task.done()]
        for move in self._made.values():
            move.rest()
        return sending

    def _look_later(self, move: _Move, pause: float) -> None:
        loop = asyncio.get_running_loop()

        def look() -> None:
            if move.waits is not None:
                move.task = loop.create_task(self._wake_up(move, move.waits))

        move.timer = loop.call_later(pause, look)

    async def _wake_up(self, move: _Move, body: kopf.Body) -> None:
        settings, logger = self.settings, logger_of(body)
        progress = settings.persistence.progress_storage
        try:
            resource = await find_resource(body, settings=settings, logger=logger)
            payload, status = smallest_write(progress, body, resource)
            await patch_object(
                resource,
                metadata_of(body),
                payload,
                "application/merge-patch+json",
                subresource=status,
                settings=settings,
                logger=logger,
            )
        except RefusedError as refusal:
            if refusal.status == 404:
                self.forget(body)
            else:
                self._look_later(move, REFUSED)
            if refusal.status not in (404, 409):  # it has gone, or an event is on its way
                logger.warning(
                    "The API server has refused a patch of this object, which was to get other"
                    f" names: {refusal}. It is tried again in {REFUSED:g} seconds. [refused]"
                )


def _version(body: kopf.Body) -> tuple[str, str]:
    metadata = body["metadata"]
    return str(metadata.get("uid")), str(metadata.get("resourceVersion"))
