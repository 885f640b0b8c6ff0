"""The objects being deleted that one operator holds, from Kopf's cycles to hooks and events.

Kopf (1.44 to 1.45) handles an object in cycles, one for each event. What is seen where:

| in the cycle | then |
| --- | --- |
| a filter sees an object being deleted | the operator's finalizers on it begin to hold it |
| it sees that a finalizer, or the object, is not there | that is gone |
| the progress storage is asked how far a cleanup is | it is given up, if it is called off |
| the progress storage is told how an attempt ended | hooks are told |
| a patch is about to be sent | it is noted which finalizers it takes off |

Between cycles the API server is asked for those of which nothing is heard: `silence.py`. Nothing is
kept of objects that are not being deleted. An operator that starts anew knows those that are as
soon as Kopf has listed them.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from .._bodies import finalizers_of, is_being_deleted
from .._changes import RemoveFinalizer
from .._kopf import answered, cleanup_ids, is_kopfs_release
from ..instrumentation import CleanupDetails, CleanupEvent, CleanupOutcome, get_hooks
from ..instrumentation._hooks import tell
from .calling_off import CallingOff
from .held import Cleanup, Deletion, Hold, Progress, deletion_time, error_of, reference_to, shown
from .posting import Poster
from .silence import Silence

# For how long an object that has gone is remembered, since a watch of another version of its kind
# may still tell of it.
_REMEMBERED = 60.0
# And how many of them at most.
_MOST = 1000


@dataclass(frozen=True)
class Sighting:
    """One object in one cycle, as a filter sees it."""

    event: str | None
    body: kopf.Body
    resource: kopf.Resource
    registry: kopf.OperatorRegistry
    logger: kopf.Logger
    progress: kopf.ProgressStorage
    """The operator's own storage."""

    settings: kopf.OperatorSettings

    cleanups: Iterable[tuple[str, tuple[Cleanup, ...]]]
    """All names of each dedicated finalizer of the resource, and the cleanups that it is for."""


class Deletions:
    """The objects being deleted that one operator holds.

    Args:
        operator: The operator's own finalizer.
        own_names: All names under which that may be on an object.
        owns: Whether a name is one of the operator's finalizers.
        calling_off: Which cleanups are not to be called.
        poster: What is posted.
    """

    def __init__(
        self,
        operator: str,
        *,
        own_names: frozenset[str],
        owns: Callable[[str], bool],
        calling_off: CallingOff,
        poster: Poster,
    ) -> None:
        self._operator = operator
        self._own_names = own_names
        self._owns = owns
        self._calling_off = calling_off
        self._poster = poster
        # Whether anything but a hook wants to know of deletions.
        self.is_wanted: bool = poster.after is not None or calling_off.annotation is not None
        self._known = dict[str, Deletion]()
        self._gone = dict[str, float]()
        self._silence = Silence(self._miss)

    def reset(self) -> None:
        """Begin anew, as an operator does that starts: what it held before is not seen now."""
        for deletion in list(self._known.values()):
            self._forget(deletion, CleanupOutcome.UNSEEN)
        self._gone.clear()

    @property
    def is_active(self) -> bool:
        """Whether anybody wants to know of deletions."""
        return self.is_wanted or bool(get_hooks())

    # In Kopf's filters

    def concern(self, event: str | None, body: kopf.Body) -> bool:
        """Whether there is anything to see here: most objects are not being deleted."""
        if not self.is_active:
            return False
        return event == "DELETED" or is_being_deleted(body)

    def look(self, seen: Sighting) -> None:
        """Look at one object in one cycle, before anything else is done about it."""
        if seen.event == "DELETED":
            self._see_it_go(seen.body["metadata"]["uid"])
        elif is_being_deleted(seen.body) and (deletion := self._deletion(seen)) is not None:
            self._silence.broken(deletion)
            present = finalizers_of(seen.body)
            for hold in [one for one in deletion.holds.values() if one.finalizer not in present]:
                self._went(deletion, hold, hold.outcome())
            for hold, outcome in self._calling_off.decide(deletion, seen.body):
                self._tell_called_off(deletion, hold, outcome)

    def _deletion(self, seen: Sighting) -> Deletion | None:
        uid = seen.body["metadata"]["uid"]
        if seen.event in (None, "ADDED"):
            self._gone.pop(uid, None)  # it has only left a selection, and is back
        return self._known.get(uid) or (None if uid in self._gone else self._begun(seen))

    def _begun(self, seen: Sighting) -> Deletion | None:
        """An object that is seen for the first time since it is being deleted."""
        dedicated = dict(seen.cleanups)
        holds = {
            name: Hold(name, dedicated.get(name, ()))
            for name in finalizers_of(seen.body)
            if name in dedicated or name in self._own_names or self._owns(name)
        }
        if not holds:
            return None
        cleanups = tuple(dict.fromkeys(one for those in dedicated.values() for one in those))
        ids = cleanup_ids(seen.registry, seen.resource)
        deletion = Deletion(
            reference=reference_to(seen.body),
            resource=seen.resource,
            logger=seen.logger,
            deleted_at=deletion_time(seen.body),
            cleanups=cleanups,
            others=ids - {one.handler_id for one in cleanups},
            holds=holds,
            own=next((holds[name] for name in holds if name in self._own_names), None),
            settings=seen.settings,
        )
        for key in ids:
            record = answered(seen.progress.fetch(key=cast("kopf.HandlerId", key), body=seen.body))
            hold = deletion.hold_of(key)
            if hold is not None and record is not None and record.get("purpose") == "delete":
                hold.note(key, record)
        self._known[deletion.uid] = deletion
        for hold in holds.values():
            self._tell(CleanupEvent.HELD, deletion, hold)
            self._watch_the_clock(deletion, hold)
        self._poster.begin(deletion)
        return deletion

    def _watch_the_clock(self, deletion: Deletion, hold: Hold) -> None:
        """Tell in time that a cleanup is overdue whose finalizer stays: no cycle comes for that."""
        for one in hold.cleanups:
            if one.release_after is not None and not one.is_released:

                def told(hold: Hold = hold) -> None:
                    if hold.finalizer in deletion.holds and not hold.is_finished:
                        self._tell_overdue(deletion, hold)

                deletion.later(one.handler_id, one.release_after, told)

    def _see_it_go(self, uid: str) -> None:
        deletion = self._known.get(uid)
        if deletion is not None:
            self._remember(uid)
            self._forget(deletion)

    def _miss(self, deletion: Deletion) -> None:
        """It has gone, and Kopf has not told of it."""
        self._remember(deletion.uid)
        self._forget(deletion, CleanupOutcome.UNSEEN)

    def _remember(self, uid: str) -> None:
        now = time.monotonic()
        while self._gone and (
            now - next(iter(self._gone.values())) >= _REMEMBERED or len(self._gone) >= _MOST
        ):
            del self._gone[next(iter(self._gone))]
        self._gone[uid] = now

    # In the progress storage

    def read(
        self, key: str, body: kopf.Body, record: kopf.ProgressRecord | None
    ) -> kopf.ProgressRecord | None:
        """How far a cleanup is, given how far it is stored to be: given up if it is called off."""
        deletion = self._known_of(body)
        if deletion is None or key not in deletion.called_off or _is_finished(record):
            return record
        return self._calling_off.record(deletion, key, record)

    def reading(self, storage: kopf.ProgressStorage) -> kopf.ProgressStorage:
        """The operator's own storage, with what `read` says of it."""
        return _Reading(storage, self.read)

    def asked(
        self, key: str, body: kopf.Body, record: kopf.ProgressRecord | None
    ) -> kopf.ProgressRecord | None:
        """The same, as Kopf is told before it calls handlers: a wait ends with a deadline."""
        deletion = self._known_of(body)
        if deletion is None:
            return record
        deletion.attempts[key] = 0 if record is None else record.get("retries") or 0
        if _is_finished(record):
            return record
        return self._calling_off.awakened(deletion, key, record)

    def attempted(self, key: str, body: kopf.Body, record: kopf.ProgressRecord) -> None:
        """An attempt has ended, or a handler is noted that was not called yet."""
        deletion = self._known_of(body)
        if deletion is None or record.get("purpose") != "delete":
            return
        hold, error = deletion.hold_of(key), error_of(record)
        if hold is None:
            return
        if key in deletion.ids:
            hold.note(key, record)
        attempts, progress = record.get("retries") or 0, Progress()
        progress.note(record)
        waits_for_children = not progress.is_finished and record.get("subrefs") and not error
        if attempts > deletion.attempts.get(key, 0) and not waits_for_children:
            hold.error = error or hold.error
            self._tell(
                CleanupEvent.ATTEMPT,
                deletion,
                hold,
                outcome=progress.outcome,
                handler=key,
                attempts=attempts,
                error=error,
            )

    def sending(self, body: kopf.Body, patch: kopf.Patch) -> None:
        """A patch is about to be sent."""
        deletion = self._known_of(body)
        if deletion is None:
            return
        for fn in patch.fns:
            if isinstance(fn, RemoveFinalizer) and fn.name in deletion.holds:
                deletion.holds[fn.name].is_sent = True
            elif deletion.own is not None and is_kopfs_release(fn):
                deletion.own.is_sent = True

    # What is told

    def _known_of(self, body: kopf.Body) -> Deletion | None:
        return self._known.get(body["metadata"].get("uid")) if self._known else None

    def _forget(self, deletion: Deletion, outcome: CleanupOutcome | None = None) -> None:
        del self._known[deletion.uid]
        deletion.stop()
        for hold in list(deletion.holds.values()):
            self._went(deletion, hold, outcome or hold.outcome())

    def _went(self, deletion: Deletion, hold: Hold, outcome: CleanupOutcome) -> None:
        del deletion.holds[hold.finalizer]
        if hold is deletion.own:
            deletion.own = None
        self._tell(CleanupEvent.GONE, deletion, hold, outcome=outcome)

    def _tell_called_off(self, deletion: Deletion, hold: Hold, outcome: CleanupOutcome) -> None:
        """A finalizer goes though its cleanups are not done: logged, counted, and posted."""
        if outcome is CleanupOutcome.OVERDUE:
            self._tell_overdue(deletion, hold)
        else:
            self._warn(
                deletion,
                "CleanupSkipped",
                f"The cleanup {hold.handlers or ' and '.join(sorted(deletion.others))} is skipped,"
                f" as {self._calling_off.annotation} asks for, and {hold.finalizer} is released."
                f" {hold.tried}{hold.leaves} [skipped]",
            )

    def _tell_overdue(self, deletion: Deletion, hold: Hold) -> None:
        late = [one for one in hold.cleanups if one.release_after is not None]
        then = "is released" if any(one.is_released for one in late) else "stays"
        left = hold.leaves if then == "is released" else ""
        self._tell(CleanupEvent.OVERDUE, deletion, hold)
        self._warn(
            deletion,
            "CleanupOverdue",
            f"The cleanup {hold.handlers} was not done within"
            f" {min(one.release_after or 0 for one in late):g} seconds of the deletion, and"
            f" {hold.finalizer} {then}. {hold.tried}{left} [overdue]",
        )

    def _warn(self, deletion: Deletion, reason: str, message: str) -> None:
        deletion.logger.warning(message)
        self._poster.post(deletion, reason, message)

    def _tell(self, event: CleanupEvent, deletion: Deletion, hold: Hold, **told: Any) -> None:
        if not get_hooks():
            return
        details: dict[str, Any] = {"attempts": hold.attempts, "error": hold.error, **told}
        tell(
            CleanupDetails(
                event=event,
                operator=self._operator,
                finalizer=hold.finalizer,
                resource=shown(deletion.resource),
                namespace=deletion.namespace,
                name=deletion.reference["metadata"]["name"],
                uid=deletion.uid,
                deleted_at=deletion.deleted_at,
                at=datetime.now(UTC),
                **details,
            )
        )


class _Reading(kopf.MultiProgressStorage):
    def __init__(
        self,
        storage: kopf.ProgressStorage,
        read: Callable[[str, kopf.Body, kopf.ProgressRecord | None], kopf.ProgressRecord | None],
    ) -> None:
        super().__init__([storage])
        self._read = read

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        return self._read(key, body, super().fetch(key=key, body=body))


def _is_finished(record: kopf.ProgressRecord | None) -> bool:
    return record is not None and bool(record.get("success") or record.get("failure"))
