"""Whether what was sent has come through; and what is done where nothing is heard of it.

Kopf (1.44 to 1.45) waits for an event after each patch, and none follows one that was refused. A
JSON Patch that is answered with 422 is a lost race to Kopf: it says so to nobody, and keeps the
functions. Any other patch that is refused, or not answered until Kopf's own retries are spent, it
gives up. So an object that was written is looked at again after a while, unless Kopf has seen it by
then:

* The smallest write, locked to the version that was seen last, so that nothing is written where an
  event is on its way. Kopf's own cycle goes on with the event that follows.
* Where that was taken, and yet the release was not, the release itself, with tests of the object
  and of the list: so that the server says what it has against it.

Beside thousands of objects an operator hears of each later than usual: so as long as others are
heard of, each is waited for twice as long as the last of them was.

Whatever is refused is logged in the server's words, with the finalizers that wait for it, and tried
again with pauses that grow to a minute.

And what Kopf has given up is not done again: which cleanups of an object have ended is remembered
until the object has gone, whatever becomes of their records.

An object may be in several of Kopf's streams (`streams.py`). Each waits for events of its own: one
may have seen what was there before, while another one has written. What is remembered is remembered
for all of them until the last one tells that the object has gone. And a stream that has finished
looks at the object again when it waits for no other one any more: that may have ended in silence.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from .._bodies import edited, finalizers_of, is_being_deleted, metadata_of
from .._changes import Change, Finalizer, RemoveFinalizer, RemoveUnwanted
from .._kopf import RefusedError, is_kopfs_release, patch_object
from .._recognised import unhidden
from .cycle import Cycle, is_finished
from .leftovers import RemoveKopfs

PAUSES = (5.0, 10.0, 20.0, 40.0, 55.0)
"""Seconds without an event until an object is looked at again; the last one from then on."""

LOST = 2
"""So many cycles in a row that begin with leftovers are no accident."""

REMEMBERED = 60.0
"""Seconds for which the cleanups that have ended are remembered of an object that is not found."""

_IN_VAIN = 20
"""So many refusals because of a newer version, of which nothing is seen, and it is forgotten."""


@dataclass(eq=False)
class Written:
    """One object in one stream that the operator writes, and has not seen since or holds there."""

    settings: kopf.OperatorSettings
    progress: kopf.ProgressStorage
    resource: kopf.Resource
    body: kopf.Body
    logger: kopf.Logger
    ended: dict[str, kopf.ProgressRecord] = field(default_factory=dict)
    """The cleanups that have ended, by their ids."""

    found: set[str] = field(default_factory=set)
    """Finalizers that were on it while it was being deleted."""

    sent_off: set[str] = field(default_factory=set)
    """Those that were to go with what was sent."""

    is_deleted: bool = False
    """Whether it was seen while it was being deleted: that is never taken back."""

    has_gone: bool = False
    """Whether it is known not to be there, though Kopf may still tell of what was before."""

    waits_for_others: Callable[[], bool] | None = None
    """Whether another stream will still be heard of, where nothing was sent."""

    lost: int = 0
    """How many cycles in a row have begun with what could not be sent."""

    has_lost: bool = False
    """Whether any has, since the object is being deleted."""

    waiting: tuple[str, ...] = ()
    """The finalizers that were to go with the last patch."""

    releases: tuple[str, ...] = ()
    """Those of them of which it is not asked again whether they are wanted."""

    rests_until: float = 0.0
    """When it may be sent by itself what has lost its races."""

    tries: int = 0
    conflicts: int = 0
    wakes: int = 0
    """How often it was woken up in vain."""

    expected: int = 0
    """How many cycles come of that: Kopf takes off what it was woken up with."""

    sent_at: float = 0.0
    """When the last patch was sent, by the clock of the event loop."""

    timer: asyncio.TimerHandle | None = None
    task: "asyncio.Task[None] | None" = None

    async def patch(
        self, payload: object, content_type: str, subresource: str | None = None
    ) -> Mapping[str, Any]:
        """Write it, as Kopf would."""
        return await patch_object(
            self.resource,
            metadata_of(self.body),
            payload,
            content_type,
            subresource=subresource,
            settings=self.settings,
            logger=self.logger,
        )

    def is_taken_off(self, finalizer: Finalizer, present: Collection[str]) -> bool:
        """Whether somebody else has taken a finalizer off while the object is being deleted."""
        names = set(finalizer.names)
        return not names.isdisjoint(self.found - self.sent_off) and names.isdisjoint(present)

    @property
    def is_awaited(self) -> bool:
        """Whether an event is to follow what was sent, and nothing was done about it yet."""
        return self.timer is not None and not self.tries and self.waits_for_others is None

    def rest(self) -> None:
        """Nothing is to be done later."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None


def pure(record: kopf.ProgressRecord) -> kopf.ProgressRecord:
    """A record as it comes from where it is stored: Kopf compares, and stores what has changed."""
    found: Any = {key: value for key, value in record.items() if value is not None}
    return cast("kopf.ProgressRecord", found)


class Remembering(kopf.MultiProgressStorage):
    """An operator's progress storage, with the cleanups that have ended whatever it has of them."""

    def __init__(self, storage: kopf.ProgressStorage, ended: Mapping[str, kopf.ProgressRecord]):
        super().__init__([storage])
        self._ended = ended

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come."""
        return remembered(super().fetch(key=key, body=body), self._ended.get(key))


def remembered(
    record: kopf.ProgressRecord | None, ended: kopf.ProgressRecord | None
) -> kopf.ProgressRecord | None:
    """How far a handler has come that is known to have ended, or is not."""
    return record if ended is None or is_finished(record) else ended


class WrittenObjects:
    """The objects that an operator writes, until they are seen again or have gone."""

    def __init__(self) -> None:
        self._known = dict[str, dict[kopf.Resource, Written]]()
        # How many seconds the last one was waited for that needed no help, and when it was seen.
        self._waited, self._seen_at = 0.0, 0.0

    def reset(self) -> None:
        """The operator starts, or stops."""
        for known in (one for streams in self._known.values() for one in streams.values()):
            known.rest()
            if known.task is not None:
                known.task.cancel()
        self._known.clear()

    def see(
        self,
        kwargs: Mapping[str, Any],
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
        *,
        leftover: bool,
    ) -> Written | None:
        """A cycle begins: Kopf has heard of the object. None where there is nothing to remember."""
        body = kwargs["body"]
        known = self._of(body, kwargs["resource"]) if self._known else None
        is_remembered = leftover or is_being_deleted(body)
        if known is None and not is_remembered:
            return None  # most cycles end here
        if known is not None and known.is_awaited:
            self._seen_at = asyncio.get_running_loop().time()
            self._waited = self._seen_at - known.sent_at
        if kwargs["type"] == "DELETED" or not is_remembered:
            if known is not None and (kwargs["type"] == "DELETED" or not known.is_deleted):
                self._forget(known)
            return None
        if known is None:
            known = self._begin(settings, progress, kwargs["resource"], body, kwargs["logger"])
        if not known.has_gone:
            known.rest()
        known.waits_for_others = None
        known.body = _small(body)
        if is_being_deleted(body):
            known.is_deleted = True
            known.found.update(finalizers_of(body))
        known.lost = known.lost + 1 if leftover else 0
        known.has_lost |= leftover
        known.conflicts = 0
        if known.expected:
            known.expected -= 1
        else:
            known.tries = 0
        if not leftover:
            known.wakes = 0
        return known

    def of(self, body: Mapping[str, Any]) -> Written | None:
        """What is known of an object: in any of its streams, which have that in common."""
        return next(iter(self._known.get(_uid_of(body), {}).values()), None)

    def _of(self, body: Mapping[str, Any], resource: kopf.Resource) -> Written | None:
        return self._known[_uid_of(body)].get(resource) if _uid_of(body) in self._known else None

    def ended(self, key: str, body: Mapping[str, Any]) -> kopf.ProgressRecord | None:
        """How a cleanup has ended that has, though it may not stand on the object."""
        known = self.of(body) if self._known else None
        return known.ended.get(key) if known is not None and is_being_deleted(body) else None

    def send(
        self,
        cycle: Cycle,
        body: kopf.Body,
        patch: kopf.Patch,
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
        *,
        others: Callable[[], bool] | None = None,
    ) -> None:
        """A patch is about to be sent: look at the object again if nothing is heard of it."""
        known = self._of(body, cycle.resource)
        if known is None:
            if not any(isinstance(fn, Change) and fn.has_effect(body) for fn in patch.fns):
                return
            known = self._begin(settings, progress, cycle.resource, body, cycle.logger)
        if not patch:  # all of it was taken out for the sake of others
            if others is not None:
                self.wait(known, others)
            return
        known.waits_for_others = None
        own = unhidden(settings.persistence.finalizer)
        known.waiting = tuple(_releases(patch, body, own))
        known.releases = tuple(_releases(patch, body, own, for_good=True))
        known.sent_off.update(known.waiting)
        self._look_later(known)

    def expect(
        self,
        cycle: Cycle,
        body: Mapping[str, Any],
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
    ) -> None:
        """A daemon's patch is about to be sent: the same, though that is no cycle's."""
        known = self._of(body, cycle.resource)
        self._look_later(
            known or self._begin(settings, progress, cycle.resource, body, cycle.logger)
        )

    def wait(self, known: Written, for_others: Callable[[], bool]) -> None:
        """Look at the object again when no other stream will be heard of any more."""
        known.waits_for_others = for_others
        self._look_later(known)

    def _begin(
        self,
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
        resource: kopf.Resource,
        body: Mapping[str, Any],
        logger: kopf.Logger,
    ) -> Written:
        another = self.of(body)
        known = Written(settings, progress, resource, _small(body), logger)
        if another is not None:
            known.ended, known.found = another.ended, another.found
            known.sent_off = another.sent_off
        self._known.setdefault(_uid_of(body), {})[resource] = known
        return known

    def _look_later(self, known: Written) -> None:
        if known.has_gone:
            return
        known.rest()
        loop = asyncio.get_running_loop()
        known.sent_at = loop.time()

        def look() -> None:
            is_hearing = loop.time() - self._seen_at < PAUSES[0]
            due = known.sent_at + (2 * self._waited if is_hearing else 0)
            if loop.time() < due:
                known.timer = loop.call_at(due, look)
                return
            known.timer = None
            known.task = loop.create_task(self._look_again(known))

        known.timer = loop.call_later(PAUSES[min(known.tries, len(PAUSES) - 1)], look)

    def overtake(self, known: Written) -> None:
        """Send a release by itself that has lost its races.

        Kopf's has a test of the whole object, and loses to everybody who writes it. This one is
        sent with tests of the object and the list. After a refusal it rests.
        """
        loop = asyncio.get_running_loop()
        is_busy = known.task is not None and not known.task.done()
        if known.releases and not is_busy and loop.time() >= known.rests_until:
            known.task = loop.create_task(self._overtake(known))

    async def _overtake(self, known: Written) -> None:
        loop = asyncio.get_running_loop()
        try:
            operations = _without(known.body, known.releases)
            await known.patch(operations, "application/json-patch+json")
        except RefusedError as refusal:
            known.tries += 1
            known.rests_until = loop.time() + PAUSES[min(known.tries, len(PAUSES)) - 1]
            self._refused(known, refusal)

    async def _look_again(self, known: Written) -> None:
        known.tries += 1
        if known.waits_for_others is not None and known.waits_for_others():
            self._look_later(known)
            return
        try:
            await self._wake_up(known)
        except RefusedError as refusal:
            self._refused(known, refusal)
        if self._of(known.body, known.resource) is known and known.timer is None:
            self._look_later(known)

    async def _wake_up(self, known: Written) -> None:
        metadata = metadata_of(known.body)
        touch = kopf.Patch()
        value = datetime.now(UTC).isoformat()
        known.progress.touch(body=known.body, patch=touch, value=value)
        lock = {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}
        payload = {**touch, "metadata": {**touch.get("metadata", {}), **lock}}
        # A storage of the operator's own may write the status, which may be a resource of its own.
        status = "status" if touch.keys() & known.resource.subresources == {"status"} else None
        fresh = await known.patch(payload, "application/merge-patch+json", status)
        known.wakes += 1
        known.expected = 2
        if known.releases and known.lost >= LOST and known.wakes > 1:
            operations = _without(fresh, known.releases)
            await known.patch(operations, "application/json-patch+json")

    def _refused(self, known: Written, refusal: RefusedError) -> None:
        if refusal.status == 404:
            known.rest()
            known.has_gone = True
            if not known.ended:
                self._forget(known)
            else:  # Kopf may still tell of what was before; or it is never told that it has gone
                loop = asyncio.get_running_loop()
                known.timer = loop.call_later(REMEMBERED, self._forget, known)
        elif refusal.status == 409:
            known.conflicts += 1
            if known.conflicts > _IN_VAIN:
                self._forget(known)
        else:
            pause = PAUSES[min(known.tries, len(PAUSES) - 1)]
            waiting = ", ".join(known.waiting) or "what is written on it"
            known.logger.warning(
                f"The API server has refused a patch of this object, and {waiting} waits for it:"
                f" {refusal}. It is tried again in {pause:g} seconds. [refused]"
            )

    def _forget(self, known: Written) -> None:
        known.rest()
        streams = self._known.get(_uid_of(known.body), {})
        streams.pop(known.resource, None)
        if not streams:
            self._known.pop(_uid_of(known.body), None)


def _uid_of(body: Mapping[str, Any]) -> str:
    return str(metadata_of(body).get("uid"))


def _small(body: Mapping[str, Any]) -> kopf.Body:
    """As much of an object as a later write needs."""
    metadata = metadata_of(body)
    keys = ("name", "namespace", "uid", "resourceVersion", "finalizers", "deletionTimestamp")
    kept: Any = {"metadata": {key: metadata[key] for key in keys if key in metadata}}
    return kopf.Body(kept)


def _releases(
    patch: kopf.Patch, body: kopf.Body, own: str, *, for_good: bool = False
) -> Iterable[str]:
    """The finalizers that go from an object being deleted with this patch."""
    present = finalizers_of(body) if is_being_deleted(body) else []
    for fn in patch.fns:
        if for_good and isinstance(fn, RemoveUnwanted | RemoveKopfs):
            continue
        if isinstance(fn, RemoveFinalizer) and fn.name in present:
            yield fn.name
        elif is_kopfs_release(fn.fn if isinstance(fn, RemoveKopfs) else fn):
            yield from (name for name in present if name == own)


def _without(body: Mapping[str, Any], names: Iterable[str]) -> list[dict[str, Any]]:
    """A JSON Patch that takes finalizers off this object, if its list is what it was."""
    uid = {"op": "test", "path": "/metadata/uid", "value": metadata_of(body).get("uid")}
    path, before = "/metadata/finalizers", finalizers_of(body)
    return [
        uid,
        {"op": "test", "path": path, "value": before},
        {"op": "replace", "path": path, "value": edited(body, remove=set(names))},
    ]
