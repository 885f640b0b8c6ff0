"""Where an operator's records are: in one place in each release of a rename.

| release | its place |
| --- | --- |
| `rollout="recognise"` | the former one, as the release before; the own one if that is shared |
| `rollout="switch"` | the own one |

A release reads an object's records where they are, and brings all of them to its place in one
request: with the first one that writes any, or before, where they have to move. No record is in
both places then, so an object needs no more room than it did. Where one of the places is in the
status, which API servers take in requests of its own, the records are written there first.

| the object carries a last state | the former place is the operator's alone | it is shared |
| --- | --- | --- |
| in the former place | the former place is read | so it is, if there is none in the own place |
| in the own place only | what is not in the former place is read there | the own place is read |

Both have one where another operator has written the former place; or where this library has, up to
0.1, whose first release of a rename wrote both: a rollback from it left an old record in the own
place. That is why the former place is read first. Where it is known to be shared it proves
nothing, and the own place is read first; and a creation that is in flight there is none that
anybody else has ended.

Nothing in the former place is believed about an object that is younger than the process, if that
writes the own place: it would have written that. Nor about one that the process has moved already:
what comes back after that was written by somebody else. It is believed where the own record is gone
that the process has written: only this operator, in another release, takes that away.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import kopf

from .._bodies import is_being_deleted
from .._kopf import answered
from .._moves import Moves
from .._paths import Path, found, has, leaves, put, take
from .places import Place


class Records:
    """An operator's records in both places, and what is done about them in one release.

    Args:
        own: Where they are in the last release.
        former: Where they were.
        is_back: Whether this release keeps them in the former place.
        shared: Whether another operator keeps records in the former place of the same objects.
        moves: What the process has moved.
        handler_ids: The handlers whose progress moves.
    """

    def __init__(
        self,
        own: Place,
        former: Place,
        *,
        is_back: bool,
        shared: bool,
        moves: Moves,
        handler_ids: Callable[[], Iterable[str]],
    ) -> None:
        self.own = own
        self.former = former
        self.is_back = is_back and not shared
        self.shared = shared
        self.home, self.other = (former, own) if self.is_back else (own, former)
        self._moves = moves
        self._handler_ids = handler_ids
        # Where only progress moves, a last state tells nothing about where that is.
        anything = kopf.Body({"metadata": {}})
        self._moves_states = own.paths_of_state(anything).isdisjoint(
            former.paths_of_state(anything)
        )
        # Objects whose last state this process has written to the own place.
        self._written = set[str]()

    # Reading

    def believes_former(self, body: kopf.Body) -> bool:
        """Whether what stands in the former place can be this operator's."""
        if self.is_back:
            return True
        is_written = body["metadata"].get("uid") in self._written
        if self._moves.is_younger(body) and not is_written:
            return False
        is_known = is_written or self._moves.is_made(body)
        return not (is_known and self.own.last_state(body) is not None)

    def places(self, body: kopf.Body) -> list[Place]:
        """Where to read, the first place first."""
        if not self.believes_former(body):
            return [self.own]
        first, other = (self.own, self.former) if self.shared else (self.former, self.own)
        is_there = self._moves_states and first.last_state(body) is not None
        return [first] if is_there else [first, other]

    def last_state(self, body: kopf.Body) -> kopf.BodyEssence | None:
        """What was handled last, as it is said in this release's place."""
        for place in self.places(body):
            essence = place.last_state(body)
            if essence is not None:
                return essence if place is self.home else self._as_at_home(essence, body)
            if self.shared and place is self.own and self._is_being_created(body):
                return None
        return None

    def _is_being_created(self, body: kopf.Body) -> bool:
        found = (self.own.record(key, body) for key in self.keys(body))
        return any(one is not None and one.get("purpose") == "create" for one in found)

    def progress(self, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come."""
        first: Place | None = None
        for place in self.places(body):
            record = place.record(key, body)
            if record is not None and _is_too_early(record, body):
                record = None
            superseded = first is not None and self._is_superseded(record, body, first)
            if record is not None and not superseded:
                return record
            first = first or place
        return None

    def _is_superseded(
        self, record: kopf.ProgressRecord | None, body: kopf.Body, first: Place
    ) -> bool:
        """Whether something else was begun since, which is in the place that is read first.

        A release that knows the former place alone may have begun to clean up after a creation
        that was cut short; and where the former place is shared, nothing old is cleared there. Kopf
        would forget what is done of the cleanup if it saw that the creation is not.
        """
        found = (first.record(key, body) for key in self.keys(body))
        purposes = {one.get("purpose") for one in found if one is not None}
        return bool(purposes) and record is not None and record.get("purpose") not in purposes

    def keys(self, body: kopf.Body) -> list[kopf.HandlerId]:
        """The handlers of the operator and their sub-handlers, of all levels."""
        return self.with_sub_handlers(self._handler_ids(), body)

    def with_sub_handlers(
        self, handler_ids: Iterable[str], body: kopf.Body
    ) -> list[kopf.HandlerId]:
        """Handlers and their sub-handlers, as far as either place knows them."""
        keys: list[Any] = list(dict.fromkeys(handler_ids))
        for key in keys:  # it grows meanwhile
            for place in (self.former, self.own):
                record = place.record(key, body)
                subrefs = (record or {}).get("subrefs") or ()
                keys.extend(ref for ref in subrefs if ref not in keys)
        return keys

    # What counts as the state of an object

    def essence(self, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """What of an object counts as its state in this release.

        Kopf takes no annotation under an operator's prefix for a change. Once the former prefix is
        left behind, those that users have put there count as any other.
        """
        leaves_other = not self.is_back and self._leaves_other(body)
        seen = self._without_other(body) if leaves_other else body
        essence = self.home.essence(seen, extra_fields)
        return self.clear(essence)

    def clear(self, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """A state without what this operator has written there itself."""
        if self.is_back or self.shared:
            essence = answered(self.other.progress.clear(essence=essence))
        return answered(self.home.progress.clear(essence=essence))

    def _without_other(self, body: kopf.Body) -> kopf.Body:
        if not self.other.may_be_on(body):
            return body
        paths = self._in_other(self.keys(body), body)
        raw = copy.deepcopy(dict(body))
        for path in paths:
            take(raw, path)
        return kopf.Body(cast("kopf.RawBody", raw))

    def _as_at_home(self, essence: kopf.BodyEssence, body: kopf.Body) -> kopf.BodyEssence:
        """A last state of the other place as it would be in this release's one.

        What only this release sees of the object is taken for unchanged.
        """
        metadata = essence.get("metadata", {})
        kept = [("metadata", key) for key in metadata if key not in ("labels", "annotations")]
        raw = cast("kopf.RawBody", essence)
        built: Any = self.home.diffbase.build(
            body=kopf.Body(raw), extra_fields=[*kept, ("status",)]
        )
        seen, known = dict(leaves(self.essence(body))), self.other.essence(body)
        for path, value in seen.items():
            if not has(known, path):
                put(built, path, value)
        return self.clear(built)

    # Bringing all of it home

    def due(self, body: kopf.Body) -> dict[Path, Any]:
        """What brings all records home: values where they are to stand, None where they leave."""
        if not self.other.may_be_on(body):
            return {}
        keys, patch = self.keys(body), kopf.Patch()
        if self.other in self.places(body):
            essence = self.last_state(body)
            if essence is not None and essence != self.home.last_state(body):
                self.home.keep_last_state(body, patch, essence)
            for key in keys:
                record, there = self.progress(key, body), self.home.record(key, body)
                if record is None and there is not None:  # left from before a rollback
                    self.home.progress.purge(key=key, body=body, patch=patch)
                elif record is not None and record != there:
                    self.home.progress.store(key=key, record=record, body=body, patch=patch)
        due = dict(leaves(patch))
        if self._leaves_other(body):
            due |= dict.fromkeys(self._in_other(keys, body))
        return due

    def must_move(self, body: kopf.Body) -> bool:
        """Whether records have to be brought home before any is written.

        The release before release one knows the former place alone: it must find them there. What
        else is in the own place does it no harm.
        """
        due = self.due(body)
        if is_being_deleted(body):  # there the last state tells nothing any more
            in_flight = self.home.paths_of_progress(self.keys(body), body)
            due = {path: value for path, value in due.items() if path in in_flight}
        return any(value is not None for value in due.values()) if self.is_back else bool(due)

    def _leaves_other(self, body: kopf.Body) -> bool:
        return not self.shared and self.believes_former(body)

    def _in_other(self, keys: Iterable[kopf.HandlerId], body: kopf.Body) -> list[Path]:
        """Where records stand in the other place and in no other."""
        paths = self.other.paths(keys, body) - self.home.paths(keys, body)
        return sorted(path for path in paths if has(body, path))

    def bring_home(self, body: kopf.Body, patch: kopf.Patch) -> dict[Path, Any]:
        """Bring all records home with a patch; what it says of a record already stays so."""
        due = self.due(body)
        in_status = any(path[0] == "status" for path, value in due.items() if value is not None)
        later = dict[Path, Any]()
        for path, value in due.items():
            if value is None and in_status and path[0] != "status":
                later[path] = None  # a function of the patch: Kopf sends it after the status
            elif not has(patch, path):
                put(patch, path, value)
        if later and not any(isinstance(fn, RecordsInPlace) and fn.values for fn in patch.fns):
            patch.fns.append(RecordsInPlace(patch, later))
        return due

    def purge(self, keys: Sequence[kopf.HandlerId], body: kopf.Body, patch: kopf.Patch) -> None:
        """Forget how far handlers have come, in both places."""
        said = {path for path, _ in leaves(patch)}
        due = self.bring_home(body, patch)
        for key in keys:
            answered(self.home.progress.purge(key=key, body=body, patch=patch))
        progress = self.home.paths_of_progress(keys, body)
        for path in progress & due.keys():
            if not has(patch, path):
                put(patch, path, None)  # or it would be brought home after all
        if is_being_deleted(body):
            # It ends here, as far as is known: a deletion needs no more than that.
            progress |= self.other.paths_of_progress(keys, body)
            every = self.keys(body)  # Kopf asks this of one handler after the other
            progress |= said & self.home.paths_of_progress(every, body)
            progress |= said & self.other.paths_of_progress(every, body)
            for path, value in due.items():
                if path not in progress and has(patch, path) and value == found(patch, path):
                    take(patch, path)

    def note_written(self, body: kopf.Body) -> None:
        """Note that the last state of an object is in the own place."""
        if not self.is_back:
            self._written.add(str(body["metadata"].get("uid")))

    def forget(self, body: kopf.Body) -> None:
        """Forget an object that is going."""
        self._written.discard(str(body["metadata"].get("uid")))


def _is_too_early(record: kopf.ProgressRecord, body: kopf.Body) -> bool:
    """Whether it is of a deletion, and the object is alive: it was restored since."""
    return record.get("purpose") == "delete" and not is_being_deleted(body)


class RecordsInPlace:
    """A function for `patch.fns` that writes what would have been a merge patch of its own.

    In Kopf's JSON Patch it goes together with a finalizer. That patch may lose its race; so what is
    left over of it goes the way of all records then: in a merge patch, which loses none. And what a
    handler has just come to goes that way at once: after a lost race a kill would lose it.

    Args:
        patch: The patch that it is a function of.
        values: What it writes, with None for what it removes.
        may_take: What it may take over from the merge patch at the end of the cycle.
    """

    def __init__(
        self,
        patch: kopf.Patch,
        values: Mapping[Path, Any] | None = None,
        *,
        may_take: Mapping[Path, Any] | None = None,
    ) -> None:
        self.values = dict(values or {})
        self._may_take = dict(may_take or {})
        self._patch = patch

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        raw = cast("dict[str, Any]", body)
        for path, value in self.values.items():
            if value is not None:
                put(raw, path, value)
            elif has(raw, path):
                take(raw, path)

    def __repr__(self) -> str:
        return f"RecordsInPlace({['.'.join(path) for path in self.values]})"

    def collect(self, patch: kopf.Patch) -> None:
        """Take over the merge patch, if there is nothing in it but what may be taken."""
        written = dict(leaves(patch))
        is_ours = patch.keys() == {"metadata"} and written.items() <= self._may_take.items()
        if self._patch is patch and is_ours:
            self.values.update(written)
            del patch["metadata"]

    def take_up(self, patch: kopf.Patch) -> None:
        """Give all of it to a merge patch, if Kopf could not send it in its own cycle.

        What the merge patch says already stays so.
        """
        if self._patch is patch:
            return
        for path, value in self.values.items():
            if not has(patch, path):
                put(patch, path, value)
        self.values.clear()
        self._may_take.clear()
        self._patch = patch


class HomeProgress(kopf.MultiProgressStorage):
    """How far handlers have come: read where it is, written in this release's place."""

    def __init__(self, records: Records) -> None:
        super().__init__([records.home.progress])
        self._records = records

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come."""
        return self._records.progress(key, body)

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        """Keep how far a handler has come, and bring the other records with it."""
        self._records.bring_home(body, patch)
        self._records.home.progress.store(key=key, record=record, body=body, patch=patch)

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Forget how far a handler has come."""
        # Kopf knows the sub-handlers of the record that it was shown. A rollback may leave others.
        self._records.purge(self._records.with_sub_handlers([key], body), body, patch)

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Change something on the object, so that Kopf sees it again."""
        self._records.home.progress.touch(body=body, patch=patch, value=value)
        if value is None:  # at the end of a cycle, before Kopf sends the patch
            for fn in patch.fns:
                if isinstance(fn, RecordsInPlace):
                    fn.collect(patch)

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """A state without what is written here."""
        return self._records.clear(essence)

    def flush(self) -> None:
        """Have the storages finish what they have begun."""
        self._records.home.progress.flush()


class HomeDiffBase(kopf.MultiDiffBaseStorage):
    """What was handled last: read where it is, written in this release's place."""

    is_missing: Callable[[kopf.Body], None] | None = None
    """What is told of each object that has no last state, in each cycle."""

    def __init__(self, records: Records) -> None:
        super().__init__([records.home.diffbase])
        self._records = records

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """What of an object counts as its state."""
        return self._records.essence(body, extra_fields)

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """What was handled last."""
        essence = self._records.last_state(body)
        if essence is None and self.is_missing is not None:
            self.is_missing(body)
        return essence

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep what is handled, and bring the other records with it."""
        if is_being_deleted(body):
            return  # nobody asks for it any more, and it might not fit
        self._records.bring_home(body, patch)
        self._records.home.diffbase.store(body=body, patch=patch, essence=essence)
        self._records.note_written(body)
