"""One cycle of one object: what is done about its dedicated finalizers.

It is decided once, in the first step of Kopf's cycle, for each finalizer that a handler of the
resource has declared:

| the object | its names that are there | is it wanted | then |
| --- | --- | --- | --- |
| alive | none | yes | it is added, and Kopf's handlers wait for the next cycle |
| alive | one that it leaves | yes | the name that it has now is put in that one's place, once |
| alive | any | no | they are removed, unless it is wanted when the patch is sent |
| being deleted | any | yes | they stay until its cleanups have ended |
| being deleted | any | too late | they are removed, with a warning |
| being deleted | any | no | they are removed, unless it is wanted when the patch is sent |

and nothing otherwise. On an object that is alive it is wanted by each handler whose filters hold,
or are not known to hold or not. On one that is being deleted it is wanted by cleanups alone, while
they have not ended; and it is too late where Kopf's own finalizer is not there, since Kopf (1.44 to
1.45) calls no cleanup then.
"""

import weakref
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast

import kopf

from .._changes import Finalizer, RemoveFinalizer, RemoveUnwanted
from .._kopf import answered
from .._moves import Moves
from .filters import Answer, Seen
from .leftovers import takes_off
from .uses import Use, Wanted

_Found: TypeAlias = Literal["none", "left", "there"]
_IsWanted: TypeAlias = Literal["yes", "no", "too late"]


class Cycle:
    """What is known in one cycle of one object.

    It keeps neither the object nor its patch alive: it is found through a context variable, and
    those live as long as the task that Kopf has for an object, and as the daemons started there.

    Args:
        patch: What Kopf will send at the end of the cycle.
        resource: What kind of object it is.
        logger: Kopf's, for this object.
        moves: What this process has given other names to.
        progress_first: Whether progress goes before a release, and not with it.
    """

    def __init__(
        self,
        patch: kopf.Patch,
        resource: kopf.Resource,
        logger: kopf.Logger,
        moves: Moves,
        *,
        progress_first: bool,
    ) -> None:
        self._patch = weakref.ref(patch)
        self.resource = resource
        self.logger = logger
        self.moves = moves
        self._progress_first = progress_first
        # The finalizers that handlers of its resource declare.
        self.wanted: tuple[Wanted, ...] = ()
        # A finalizer is missing, so Kopf's handlers wait for the next cycle.
        self.postponed = False
        # A finalizer goes from an object being deleted.
        self._releases = False
        # Kopf would forget what cleanups have done while a daemon still stops, and call them again.
        self.keeps_progress = False
        # Cleanups of which Kopf has told nothing yet, by their finalizers on this object.
        self.elsewhere: Mapping[str, Use] = {}
        # What has gone by itself from an object being deleted, though it may be seen still.
        self.taken: Collection[str] = ()
        # What stays until its cleanups have ended: its names, and which are to be called.
        self._waiting = dict[tuple[str, ...], set[str]]()

    @property
    def patch(self) -> kopf.Patch | None:
        """What Kopf will send; None when the cycle is over, and Kopf has forgotten it."""
        return self._patch()

    def releases_with(self, patch: kopf.Patch) -> bool:
        """Whether what is written goes with the release of a finalizer, in one JSON Patch.

        After a conflict it does not: beside a busy writer it would lose each race anew.
        """
        return self._releases and not self._progress_first and self.patch is patch

    def wait(self, names: tuple[str, ...], cleanups: set[str]) -> None:
        """Have a finalizer stay until its cleanups have ended."""
        self._waiting[names] = cleanups

    def waits_for(self, key: str) -> bool:
        """Whether it is a cleanup that a finalizer waits for, or one of its sub-handlers."""
        ids = [one for cleanups in self._waiting.values() for one in cleanups]
        return any(key == one or key.startswith(f"{one}/") for one in ids)

    def finish(self, key: str, record: kopf.ProgressRecord, patch: kopf.Patch) -> None:
        """A handler has ended, well or not: release what waited for it alone."""
        for names, cleanups in self._waiting.items():
            if key not in cleanups:
                continue
            cleanups.discard(key)
            if not record.get("success"):
                self.logger.warning(
                    f"The cleanup {key} is given up and has not succeeded:"
                    f" {record.get('message')}. {names[0]} no longer waits for it. [given-up]"
                )
            if not cleanups:
                self.release(patch, *map(RemoveFinalizer, names))

    def release(self, patch: kopf.Patch, *removals: RemoveFinalizer) -> None:
        """Take a finalizer off an object being deleted."""
        self._releases = True
        # Instead of those of handlers, which are not sent.
        patch.fns[:] = [fn for fn in patch.fns if fn not in removals]
        patch.fns.extend(removals)

    def hold_own(self, patch: kopf.Patch, body: kopf.Body, own: str) -> None:
        """Keep Kopf from taking its finalizer off while a cleanup of another version waits.

        Kopf (1.44 to 1.45) asks once what is served, and does not watch what was not served then.
        Without its own finalizer it calls no cleanup, also when it is started anew.
        """
        if not self.elsewhere:
            return
        kept = [fn for fn in patch.fns if not takes_off(own, fn, body)]
        if len(kept) < len(patch.fns):
            patch.fns[:] = kept
            for name, use in self.elsewhere.items():
                self.logger.warning(
                    f"This object waits for the cleanup {use.handler_id} of {use.selector}, where"
                    f" Kopf has not seen it yet. If that is not served, it hangs on {name} until it"
                    " is, and the operator is started again. [not-served]"
                )

    def hold_declared_back(self, patch: kopf.Patch) -> None:
        """Take out of a patch that is about to be sent what handlers remove by hand, with an error.

        It would be put on again in each cycle, and Kopf would call no handler of changes. An error
        in the handler would have it called at every event.
        """
        for fn in list(patch.fns):
            if not isinstance(fn, RemoveFinalizer) or fn.patch is None:
                continue  # not by hand
            users = [one.uses[0] for one in self.wanted if fn.name in one.finalizer.names]
            if users:
                patch.fns.remove(fn)
                self.logger.error(
                    f"Not sent: a handler has removed {fn.name} with remove_finalizer(), and"
                    f" {users[0].handler_id} declares it, so it goes by itself: removed by a"
                    " handler it would be put on again in each cycle, and no handler of changes be"
                    " called any more. Leave the call out, or that finalizer=. [declared]"
                )


def decide(wanted: Wanted, seen: Seen, cycle: Cycle, patch: kopf.Patch, own: str) -> None:
    """What is done about one finalizer in one cycle: the table above.

    Args:
        wanted: The finalizer, and the handlers that may want it.
        seen: The object.
        cycle: What is known in this cycle.
        patch: What Kopf will send at its end.
        own: Kopf's own finalizer.
    """
    finalizer = wanted.finalizer
    there = finalizer.found(seen.finalizers)
    if seen.is_being_deleted:
        # A removal that is left over is for good: the cleanup has ended, or a handler asked for it.
        there = tuple(
            name
            for name in there
            if RemoveFinalizer(name) not in patch.fns and name not in cycle.taken
        )
        if not there:
            return  # nothing is added any more, so nobody need be asked
    elif there and wanted.is_by_all and not finalizer.former:
        return  # nothing is to be done: most cycles end here
    waiting = cleanups(wanted, seen)
    match seen.is_being_deleted, _found(finalizer, there), _is_wanted(wanted, seen, waiting, own):
        case False, "none", "yes":
            patch.fns.append(finalizer.addition(seen.body))
            cycle.postponed = True
        case False, "left", "yes" if cycle.moves.may_make(seen.body):
            cycle.logger.info(f"Moving from {', '.join(there)} to {finalizer.written}.")
            if not finalizer.keeps_former:
                cycle.moves.look_at_birth(seen.body, there, finalizer.written)
            patch.fns.append(finalizer.addition(seen.body))
            cycle.moves.make(seen.body)
        case False, "there", "yes" if finalizer.former:
            cycle.moves.see(seen.body)
        case False, "there" | "left", "no":
            for name in there:
                cycle.logger.debug(f"Releasing {name}: no handler of it matches any more.")
            patch.fns.extend(_removals(there, wanted, seen, own))
        case True, _, "yes":
            cycle.wait(there, set(waiting))
        case True, _, "too late":
            _warn_of_missed(finalizer.name, waiting, seen, cycle, own)
            cycle.release(patch, *map(RemoveFinalizer, there))
        case True, _, "no":
            _warn_of_begun(wanted, seen, cycle)
            cycle.release(patch, *_removals(there, wanted, seen, own))


def _found(finalizer: Finalizer, there: tuple[str, ...]) -> _Found:
    if not there:
        return "none"
    return "there" if finalizer.left.isdisjoint(there) else "left"


def _is_wanted(wanted: Wanted, seen: Seen, waiting: Mapping[str, Answer], own: str) -> _IsWanted:
    if not seen.is_being_deleted:
        return "yes" if wanted.is_by_any(seen) else "no"
    if not waiting:
        return "no"
    return "yes" if own in seen.finalizers else "too late"


def _removals(
    there: tuple[str, ...], wanted: Wanted, seen: Seen, own: str
) -> list[RemoveFinalizer]:
    """What takes it off, unless it is wanted on the object as it is when the patch is sent."""
    if seen.is_being_deleted and not wanted.has_cleanups:
        return [RemoveFinalizer(name) for name in there]  # it will not be wanted any more

    def is_wanted(body: Mapping[str, Any]) -> bool:
        fresh = seen.again(body)
        return _is_wanted(wanted, fresh, cleanups(wanted, fresh), own) == "yes"

    return [RemoveUnwanted(name, is_wanted=is_wanted) for name in there]


def cleanups(wanted: Wanted, seen: Seen) -> dict[str, Answer]:
    """The cleanups that an object being deleted waits for, and whether it is known to match."""
    if not seen.is_being_deleted:
        return {}
    matching = {
        use.handler_id: answer
        for use in wanted.uses
        if use.is_cleanup and (answer := use.filters.hold(seen)) is not False
    }
    return {one: matching[one] for one in matching if not is_finished(record_of(one, seen))}


def _warn_of_missed(
    name: str, waiting: Mapping[str, Answer], seen: Seen, cycle: Cycle, own: str
) -> None:
    # What Kopf has not even begun, it may not have had to call.
    missed = [one for one in waiting if waiting[one] or record_of(one, seen)]
    if missed:
        cycle.logger.warning(
            f"Releasing {name} though its cleanup has not succeeded: {', '.join(sorted(missed))}."
            f" Kopf's own finalizer, {own}, is not on the object, so Kopf will not call it any"
            " more. [released-undone]"
        )


def give_up(
    wanted: Wanted, seen: Seen, patch: kopf.Patch, logger: kopf.Logger
) -> dict[str, kopf.ProgressRecord]:
    """Have the cleanups of a finalizer ended that somebody has taken off, and no others.

    It is stored, so that it holds after a restart, too.
    """
    ended = dict[str, kopf.ProgressRecord]()
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    for handler_id in cleanups(wanted, seen):
        known = record_of(handler_id, seen) or {}
        told: Any = {
            "started": known.get("started") or now,
            "stopped": now,
            "purpose": "delete",
            "retries": known.get("retries") or 0,
            "success": False,
            "failure": True,
            "message": "its finalizer was taken off",
        }
        ended[handler_id] = told
        key = cast("kopf.HandlerId", handler_id)
        seen.progress.store(key=key, record=told, body=seen.body, patch=patch)
    if ended:
        logger.warning(
            f"Somebody else has taken {wanted.finalizer.name} off, and the object is being deleted:"
            f" its cleanup is given up, {', '.join(sorted(ended))}. Others go on. [taken-off]"
        )
    return ended


def _warn_of_begun(wanted: Wanted, seen: Seen, cycle: Cycle) -> None:
    ids = [use.handler_id for use in wanted.uses if use.is_cleanup]
    records = {one: record_of(one, seen) for one in ids}
    begun = [one for one, record in records.items() if record and not is_finished(record)]
    if begun:
        cycle.logger.warning(
            f"Releasing {wanted.finalizer.name} though its cleanup has begun, and has not"
            f" succeeded: {', '.join(sorted(begun))}. Its filters do not match the object any more,"
            " so Kopf will not call it again. [no-longer-matching]"
        )


def record_of(handler_id: str, seen: Seen) -> kopf.ProgressRecord | None:
    """What is stored of a cleanup, by this process or by one before it."""
    record = answered(seen.progress.fetch(key=cast("kopf.HandlerId", handler_id), body=seen.body))
    # A function that handles creations too has the same id for both.
    return record if record is not None and record.get("purpose") == "delete" else None


def is_finished(record: kopf.ProgressRecord | None) -> bool:
    """Whether a handler has succeeded, or is given up."""
    return record is not None and bool(record.get("success") or record.get("failure"))
