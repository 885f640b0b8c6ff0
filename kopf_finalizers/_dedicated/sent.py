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
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import kopf

from .._bodies import finalizers_of, is_being_deleted, metadata_of, uid_of
from .._changes import Finalizer
from .._kopf import RefusedError, find_resource, patch_object
from .._later import small, smallest_write
from .._recognised import unhidden
from .cycle import Cycle
from .effects import brings, changed, releases, take_off

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
    stream: kopf.Resource | None
    """Of which resource it is, as a filter has told; None where none is asked about it."""

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

    addition: str | None = None
    """The finalizer that was to come with the last patch, where no filter is asked."""

    taken: set[str] = field(default_factory=set)
    """Those that have been sent by themselves, and are not there whatever events of before say."""

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

    is_seen: bool = False
    """Whether Kopf has begun a cycle since, where no filter is asked, and has sent nothing yet."""

    finished_on: str | None = None
    """The version that it had when a cleanup ended last, where no filter is asked."""

    timer: asyncio.TimerHandle | None = None
    task: "asyncio.Task[None] | None" = None

    async def patch(
        self,
        resource: kopf.Resource,
        payload: object,
        content_type: str,
        subresource: str | None = None,
    ) -> Mapping[str, Any]:
        """Write it, as Kopf would."""
        return await patch_object(
            resource,
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

    @property
    def is_overtaking(self) -> bool:
        """Whether a write of the library's own is on its way."""
        return self.task is not None and not self.task.done()

    def rest(self) -> None:
        """Nothing is to be done later."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None


class WrittenObjects:
    """The objects that an operator writes, until they are seen again or have gone."""

    def __init__(self) -> None:
        self.known: dict[str, dict[kopf.Resource | None, Written]] = {}
        self._resources = dict[tuple[str, str], kopf.Resource]()
        # How many seconds the last one was waited for that needed no help, and when it was seen.
        self._waited, self._seen_at = 0.0, 0.0

    def reset(self) -> "list[asyncio.Task[None]]":
        """The operator starts, or stops; returns what is being sent, and breaks off."""
        known = [one for streams in self.known.values() for one in streams.values()]
        sending = [one.task for one in known if one.task is not None and not one.task.done()]
        for one in known:
            one.rest()
        for task in sending:
            task.cancel()
        self.known.clear()
        self._resources.clear()
        return sending

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
        if not (self.known or leftover or is_being_deleted(body)):
            return None  # most cycles end here
        bare = _bare(body)
        known = self._of(bare, kwargs["resource"])
        is_remembered = leftover or is_being_deleted(bare)
        if known is None and not is_remembered:
            return None
        if known is not None:
            self.hear_of(known)
        if kwargs["type"] == "DELETED" or not is_remembered:
            if known is not None and (kwargs["type"] == "DELETED" or not known.is_deleted):
                self.forget(known)
            return None
        if known is None:
            known = self.begin(settings, progress, kwargs["resource"], body, kwargs["logger"])
        if not known.has_gone:
            known.rest()
        known.waits_for_others = None
        known.body = small(body)
        if is_being_deleted(bare):
            known.is_deleted = True
            known.found.update(finalizers_of(bare))
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

    def hear_of(self, known: Written) -> None:
        """Note how long it takes until something is heard: where Kopf is busy, it is waited for."""
        if known.is_awaited:
            self._seen_at = asyncio.get_running_loop().time()
            self._waited = self._seen_at - known.sent_at

    def of(self, body: Mapping[str, Any]) -> Written | None:
        """What is known of an object: in any of its streams, which have that in common."""
        return next(iter(self.known.get(uid_of(body), {}).values()), None)

    def _of(self, body: Mapping[str, Any], stream: kopf.Resource | None) -> Written | None:
        return self.known[uid_of(body)].get(stream) if uid_of(body) in self.known else None

    def ended(self, key: str, body: Mapping[str, Any]) -> kopf.ProgressRecord | None:
        """How a cleanup has ended that has, though it may not stand on the object."""
        known = self.of(body) if self.known else None
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
        bare = _bare(body)
        known = self._of(bare, cycle.resource)
        if known is None:
            if not any(brings(fn, body) for fn in patch.fns):
                return
            known = self.begin(settings, progress, cycle.resource, body, cycle.logger)
        if not patch:  # all of it was taken out for the sake of others
            if others is not None:
                self.wait(known, others)
            return
        known.waits_for_others = None
        own = unhidden(settings.persistence.finalizer)
        known.waiting = tuple(releases(patch, bare, own))
        known.releases = tuple(releases(patch, bare, own, for_good=True))
        known.sent_off.update(known.waiting)
        present = finalizers_of(bare)
        declared = {name for one in cycle.wanted for name in one.finalizer.names}
        is_held = own in present or not declared.union(known.waiting).isdisjoint(present)
        if is_held or not is_being_deleted(bare):
            self.look_later(known)  # else others hold it, and Kopf hears when they do not

    def expect(
        self,
        cycle: Cycle,
        body: Mapping[str, Any],
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
    ) -> None:
        """A daemon's patch is about to be sent: the same, though that is no cycle's."""
        known = self._of(body, cycle.resource)
        self.look_later(known or self.begin(settings, progress, cycle.resource, body, cycle.logger))

    def wait(self, known: Written, for_others: Callable[[], bool]) -> None:
        """Look at the object again when no other stream will be heard of any more."""
        known.waits_for_others = for_others
        self.look_later(known)

    def begin(
        self,
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
        stream: kopf.Resource | None,
        body: Mapping[str, Any],
        logger: kopf.Logger,
    ) -> Written:
        """Remember an object from now on, in a stream of which a filter tells, or in none."""
        another = self.of(body)
        known = Written(settings, progress, stream, small(body), logger)
        if another is not None:
            known.ended, known.found = another.ended, another.found
            known.sent_off = another.sent_off
            if another.stream is None:  # a filter is asked from now on
                self.forget(another)
        self.known.setdefault(uid_of(body), {})[stream] = known
        return known

    def look_later(self, known: Written) -> None:
        """Look at an object again, if nothing is heard of it until then."""
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
            if not known.is_seen:
                known.task = loop.create_task(self._look_again(known))
            elif not known.ended:
                self.forget(known)

        known.timer = loop.call_later(PAUSES[min(known.tries, len(PAUSES) - 1)], look)

    def overtake(self, known: Written) -> None:
        """Send a release by itself that has lost its races.

        Kopf's has a test of the whole object, and loses to everybody who writes it. This one is
        sent with tests of the object and the list, as they are now: beside a busy writer Kopf is
        late with its events. Until it has come through, nobody else sends it. After a refusal it
        rests.
        """
        loop = asyncio.get_running_loop()
        if known.releases and not known.is_overtaking and loop.time() >= known.rests_until:
            known.taken.update(known.releases)
            self.look_later(known)
            known.task = loop.create_task(self._overtake(known, known.releases))

    async def _overtake(self, known: Written, names: tuple[str, ...]) -> None:
        loop = asyncio.get_running_loop()
        try:
            send = functools.partial(known.patch, await self._resource_of(known))
            await take_off(names, known.body, send)
        except RefusedError as refusal:
            known.taken.difference_update(names)
            known.tries += 1
            known.rests_until = loop.time() + PAUSES[min(known.tries, len(PAUSES)) - 1]
            self._refused(known, refusal)
            self._look_on(known)

    async def _look_again(self, known: Written) -> None:
        known.tries += 1
        if known.waits_for_others is not None and known.waits_for_others():
            self.look_later(known)
            return
        try:
            await self._wake_up(known)
        except RefusedError as refusal:
            self._refused(known, refusal)
        self._look_on(known)

    def _look_on(self, known: Written) -> None:
        if self._of(known.body, known.stream) is known and known.timer is None:
            self.look_later(known)

    async def _wake_up(self, known: Written) -> None:
        resource = await self._resource_of(known)
        payload, status = smallest_write(known.progress, known.body, resource)
        fresh = await known.patch(resource, payload, "application/merge-patch+json", status)
        known.wakes += 1
        known.expected = 2
        if (known.releases or known.addition) and known.lost >= LOST and known.wakes > 1:
            operations = changed(fresh, add=known.addition, remove=known.releases)
            if known.stream is None:
                # Kopf has decided it on the version that was woken up, and on no other.
                version = metadata_of(fresh).get("resourceVersion")
                test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
                operations.insert(0, test)
            await known.patch(resource, operations, "application/json-patch+json")

    async def _resource_of(self, known: Written) -> kopf.Resource:
        """What kind of object it is: the API server is asked once, where no filter has told it."""
        if known.stream is not None:
            return known.stream
        kind = known.body["apiVersion"], known.body["kind"]
        if kind not in self._resources:
            self._resources[kind] = await find_resource(
                known.body, settings=known.settings, logger=known.logger
            )
        return self._resources[kind]

    def _refused(self, known: Written, refusal: RefusedError) -> None:
        if refusal.status == 404:
            known.rest()
            known.has_gone = True
            if not known.ended:
                self.forget(known)
            else:  # Kopf may still tell of what was before; or it is never told that it has gone
                loop = asyncio.get_running_loop()
                known.timer = loop.call_later(REMEMBERED, self.forget, known)
        elif refusal.status == 409:
            known.conflicts += 1
            if known.conflicts > _IN_VAIN:
                self.forget(known)
        else:
            pause = PAUSES[min(known.tries, len(PAUSES) - 1)]
            waiting = ", ".join(known.waiting) or "what is written on it"
            known.logger.warning(
                f"The API server has refused a patch of this object, and {waiting} waits for it:"
                f" {refusal}. It is tried again in {pause:g} seconds. [refused]"
            )

    def forget(self, known: Written) -> None:
        """Nothing more is to be remembered of an object, in that stream."""
        known.rest()
        streams = self.known.get(uid_of(known.body), {})
        streams.pop(known.stream, None)
        if not streams:
            self.known.pop(uid_of(known.body), None)


def _bare(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata alone, to be read often: Kopf's view of a body looks each value up anew."""
    return {"metadata": metadata_of(body)}
