"""Where an operator's records are, while they move from one place to another.

Kopf (1.44 to 1.45) keeps two kinds of records on an object: how far each handler has come (the
progress storage) and what was handled last (the diff-base storage). While an operator is renamed,
both may be in its former place or in its own:

| the object carries a last state | the place is the operator's alone | it is shared |
| --- | --- | --- |
| in the former place | the former place is read | so it is, if there is none in the own place |
| in the own place only | what is not in the former place is read there | the own place is read |

A release that does not know the own place (a rollback) leaves an old record there, and one that
knows it leaves none in the former place. That is why the former place is read first. Where another
operator writes it too, it proves nothing, and the own place is read first.

Nothing in the former place is believed about an object that is younger than the process: the
process would have written its own place too. Nor about one that the process has moved already: what
comes back after that was written by somebody else.

A record in flight and the last state never part: in each request an object's records are in places
from which the next one, of this process or of another after a kill, reads all of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import kopf

from .._changes import MergeIntoBody


@dataclass(frozen=True)
class Place:
    """Where records are kept: two storages with one prefix."""

    progress: kopf.ProgressStorage
    diffbase: kopf.DiffBaseStorage

    def has_last_state(self, body: kopf.Body) -> bool:
        """Whether an object was handled to the end by whoever writes here."""
        return self.diffbase.fetch(body=body) is not None


@dataclass
class Sightings:
    """What a process knows of the objects that it has seen."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _moved: dict[str, str] = field(default_factory=dict)

    def is_younger(self, body: kopf.Body) -> bool:
        """Whether the object was created after the process has started."""
        created = body["metadata"].get("creationTimestamp")
        return created is not None and datetime.fromisoformat(created) > self.started

    def is_moved(self, body: kopf.Body) -> bool:
        """Whether this process has moved the object before, and something has come of it."""
        uid, version = _version(body)
        return self._moved.get(uid, version) != version

    def move(self, body: kopf.Body) -> None:
        """Note that the object is being moved: each is only once, or it might never end."""
        uid, version = _version(body)
        self._moved[uid] = version

    def forget(self, body: kopf.Body) -> None:
        """Forget an object that is going."""
        self._moved.pop(_version(body)[0], None)


def _version(body: kopf.Body) -> tuple[str, str]:
    metadata = body["metadata"]
    return str(metadata.get("uid")), str(metadata.get("resourceVersion"))


class Records:
    """An operator's records in both places, and what is done about them in one release.

    Args:
        own: Where they are to go.
        prefix: Where they were: the prefix of the former annotations.
        goes_on: Whether this release still keeps the former place, so that it can be rolled back
            to one that knows no other: what is written goes to both.
        shared: Whether another operator keeps records in the former place of the same objects.
        handler_ids: The handlers whose progress moves.
    """

    def __init__(
        self,
        own: Place,
        *,
        prefix: str,
        goes_on: bool,
        shared: bool,
        sightings: Sightings,
        handler_ids: Callable[[], Iterable[str]],
    ) -> None:
        self.own = own
        self.former_progress = kopf.AnnotationsProgressStorage(prefix=prefix)
        self.former_diffbase = kopf.AnnotationsDiffBaseStorage(prefix=prefix)
        self.former = Place(self.former_progress, self.former_diffbase)
        self.goes_on = goes_on
        self.shared = shared
        self._inside = f"{prefix}/"
        self._sightings = sightings
        self._handler_ids = handler_ids

    def believes_former(self, body: kopf.Body) -> bool:
        """Whether what stands in the former place can be this operator's."""
        if self._sightings.is_younger(body):
            return False
        return not (self._sightings.is_moved(body) and self.own.has_last_state(body))

    def places(self, body: kopf.Body, *, believed: bool | None = None) -> list[Place]:
        """Where to read, the first place first."""
        believed = self.believes_former(body) if believed is None else believed
        if not believed:
            return [self.own]
        if self.shared:
            return [self.own] if self.own.has_last_state(body) else [self.own, self.former]
        return [self.former] if self.former.has_last_state(body) else [self.former, self.own]

    def last_state(self, body: kopf.Body, places: Iterable[Place]) -> kopf.BodyEssence | None:
        """What was handled last, as far as it is in one of these places."""
        found = (place.diffbase.fetch(body=body) for place in places)
        return next((essence for essence in found if essence is not None), None)

    def progress(
        self, key: kopf.HandlerId, body: kopf.Body, places: Iterable[Place]
    ) -> kopf.ProgressRecord | None:
        """How far a handler has come, as far as it is in one of these places."""
        first: Place | None = None
        for place in places:
            record = place.progress.fetch(key=key, body=body)
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
        found = (first.progress.fetch(key=key, body=body) for key in self._keys(body))
        purposes = {one.get("purpose") for one in found if one is not None}
        return bool(purposes) and record is not None and record.get("purpose") not in purposes

    def move(
        self, body: kopf.Body, patch: kopf.Patch, *, believed: bool, unfinished: bool = True
    ) -> None:
        """Have an object's records where this release keeps them; safe to call again.

        With `unfinished=False`, the progress of handlers is left for when it is next written.
        """
        if not self.goes_on:
            self._leave_former(body, patch, believed=believed, unfinished=unfinished)
        elif not self.shared and not self.former.has_last_state(body):
            self._restore_former(body, patch)

    def _leave_former(
        self, body: kopf.Body, patch: kopf.Patch, *, believed: bool, unfinished: bool
    ) -> None:
        if self.shared and not unfinished:
            return  # or the last state would part from what is in flight, and nobody would read it
        clears = not self.shared
        left = self._left_behind(body) if clears else {}
        if left and left.keys() <= patch.metadata.annotations.keys():
            return  # it is done already
        places = self.places(body, believed=believed)
        essence = self.last_state(body, places)
        if essence is not None:
            essence = self.as_own(essence, body)
            if essence != self.own.diffbase.fetch(body=body):
                self.own.diffbase.store(body=body, patch=patch, essence=essence)
        if self.former not in places:
            return
        for key in self._keys(body):
            record = self.progress(key, body, places)
            own = self.own.progress.fetch(key=key, body=body)
            if record is None and own is not None:  # left from before a rollback
                self.own.progress.purge(key=key, body=body, patch=patch)
            elif unfinished and record is not None and record != own:
                self.own.progress.store(key=key, record=record, body=body, patch=patch)
            if unfinished and clears:
                self.former.progress.purge(key=key, body=body, patch=patch)
        patch.metadata.annotations.update(left)

    def _restore_former(self, body: kopf.Body, patch: kopf.Patch) -> None:
        """An object comes back from a release that has left the former place behind."""
        essence = self.own.diffbase.fetch(body=body)
        if essence is not None:
            self.former.diffbase.store(body=body, patch=patch, essence=essence)
        for key in self._keys(body):
            record = self.progress(key, body, [self.former, self.own])
            if record is not None and self.former.progress.fetch(key=key, body=body) is None:
                self.former.progress.store(key=key, record=record, body=body, patch=patch)

    def as_own(self, essence: kopf.BodyEssence, body: kopf.Body) -> kopf.BodyEssence:
        """A last state as it has to be in the own place.

        Kopf takes no annotation under an operator's prefix for a change. Once the former prefix is
        left behind, those that users have put there count as any other. They do not count as new.
        """
        annotations: dict[str, str] = dict(essence.get("metadata", {}).get("annotations", {}))
        kept = {key: value for key, value in annotations.items() if not self._is_inside(key)}
        kept |= self._others_inside(body)
        if kept == annotations:
            return essence
        changed: Any = {**essence, "metadata": {**essence.get("metadata", {}), "annotations": kept}}
        return self.own.progress.clear(essence=changed)

    def _others_inside(self, body: kopf.Body) -> dict[str, str]:
        """The annotations under the former prefix that the next release will see."""
        present = body.metadata.annotations
        if not any(self._is_inside(key) for key in present):
            return {}
        records = {} if self.shared else self._left_behind(body)
        for key in () if self.shared else self._keys(body):
            records |= dict.fromkeys(self.former_progress.make_keys(key, body=body))
        seen = {key: value for key, value in present.items() if key not in records}
        raw: Any = {**body, "metadata": {**body["metadata"], "annotations": seen}}
        essence = self.own.diffbase.build(body=kopf.Body(raw))
        found = essence.get("metadata", {}).get("annotations", {})
        return {key: value for key, value in found.items() if self._is_inside(key)}

    def _is_inside(self, annotation: str) -> bool:
        return annotation.startswith(self._inside)

    def _left_behind(self, body: kopf.Body) -> dict[str, None]:
        """The annotations of the former place other than progress, as a merge patch."""
        former = self.former_diffbase
        keys = {*former.make_keys(former.key, body=body), f"{self._inside}kopf-managed"}
        keys.update(self.former_progress.make_keys(self.former_progress.touch_key, body=body))
        return dict.fromkeys(sorted(keys & body.metadata.annotations.keys()))

    def _keys(self, body: kopf.Body) -> list[kopf.HandlerId]:
        """The handlers of the operator and their sub-handlers, of all levels."""
        return self.with_sub_handlers(self._handler_ids(), body)

    def with_sub_handlers(
        self, handler_ids: Iterable[str], body: kopf.Body
    ) -> list[kopf.HandlerId]:
        """Handlers and their sub-handlers, as far as either place knows them."""
        keys: list[Any] = list(dict.fromkeys(handler_ids))
        for key in keys:  # it grows meanwhile
            for place in (self.former, self.own):
                record = place.progress.fetch(key=key, body=body)
                subrefs = (record or {}).get("subrefs") or ()
                keys.extend(ref for ref in subrefs if ref not in keys)
        return keys


@dataclass(frozen=True)
class MoveRecords:
    """A function for `patch.fns`: it moves what there is to move on the body that it is given.

    Kopf calls it after everything else that a cycle has written, so it undoes none of that.
    """

    records: Records
    believed: bool

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        merge = MergeIntoBody()
        self.records.move(kopf.Body(body), merge.patch, believed=self.believed)
        merge(body)

    def has_effect(self, body: kopf.Body) -> bool:
        """Whether there is anything to move."""
        patch = kopf.Patch()
        self.records.move(body, patch, believed=self.believed)
        return bool(patch)


class ProgressInBothPlaces(kopf.MultiProgressStorage):
    """Handlers' attempts: what is in flight in the former place goes on from there."""

    def __init__(self, records: Records) -> None:
        super().__init__([records.own.progress, records.former.progress])
        self._records = records

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come."""
        return self._records.progress(key, body, self._records.places(body))

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        """Keep how far a handler has come, and leave the former place if that is due."""
        records = self._records
        if not records.goes_on:
            # In one request, so that a process that is killed leaves all of it in one place.
            believed = records.believes_former(body)
            records.move(body, patch, believed=believed, unfinished=False)
            self._purge_former(key, body, patch)
        elif not records.shared:
            records.former.progress.store(key=key, record=record, body=body, patch=patch)
        records.own.progress.store(key=key, record=record, body=body, patch=patch)

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Forget how far a handler has come."""
        # Kopf knows the sub-handlers of the record that it was shown. A rollback may leave others.
        for one in self._records.with_sub_handlers([key], body):
            self._records.own.progress.purge(key=one, body=body, patch=patch)
            self._purge_former(one, body, patch)

    def _purge_former(self, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        records = self._records
        if not records.shared and (records.goes_on or records.believes_former(body)):
            records.former.progress.purge(key=key, body=body, patch=patch)

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Change something on the object, so that Kopf sees it again."""
        self._records.own.progress.touch(body=body, patch=patch, value=value)


class DiffBaseInBothPlaces(kopf.MultiDiffBaseStorage):
    """What was handled last, in the place that is believed."""

    def __init__(self, records: Records) -> None:
        super().__init__([records.own.diffbase, records.former.diffbase])
        self._records = records

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """What was handled last."""
        return self._records.last_state(body, self._records.places(body))

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep what is handled, and leave the former place if that is due."""
        records = self._records
        if not records.goes_on:
            believed = records.believes_former(body)
            records.move(body, patch, believed=believed, unfinished=False)
            essence = records.as_own(essence, body)
        elif not records.shared:
            records.former.diffbase.store(body=body, patch=patch, essence=essence)
        records.own.diffbase.store(body=body, patch=patch, essence=essence)
