"""The operator's own finalizer on objects about which no filter is asked.

Where no handler of a resource has a dedicated finalizer, no filter of this library is asked about
its objects: one costs as much as all that Kopf does itself with an event. What Kopf (1.44 to 1.45)
asks anyway is its storages: in each cycle for the last state, which is where the library looks at
its settings, too; and the progress storage is told how handlers have ended, and of each patch right
before it is sent. That is enough to see

* whether something is heard of an object after a patch with which Kopf's finalizer comes or goes,
  or of one that is being deleted and has it: `sent.py` has what is done where nothing is;
* which cleanups have ended, whatever becomes of their records;
* what Kopf has left over from a patch that has lost its race. It decides anew in each cycle whether
  its finalizer comes or goes, and calls no handlers beside something left over. So that is
  dropped, and the object woken up where nothing else is sent. What is kept is the release after all
  cleanups have ended: Kopf has forgotten by then that they have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from .._bodies import finalizers_of, is_being_deleted, metadata_of
from .._changes import has_effect
from .._kopf import answered, is_kopfs_addition, is_kopfs_release
from .._later import logger_of, small
from .._recognised import unhidden
from .._whole_list import hold_whole_list_back
from .cycle import is_finished
from .ended import pure, remembered
from .sent import LOST, Written, WrittenObjects


@dataclass(frozen=True, eq=False)
class KopfsChange:
    """Kopf's addition or removal of its own finalizer, in the cycle that has decided it.

    Kopf sends it after a merge patch, to the object as it is then. A removal that was decided since
    no handler matches is out of date where somebody else has changed the object meanwhile: the
    event of that is on its way, and Kopf decides anew.

    Args:
        fn: Kopf's function.
        is_up_to_date: Whether it is still what Kopf would decide, of an object.
        is_final: Whether it is a release after all cleanups have ended.
    """

    fn: kopf.PatchFn
    is_up_to_date: Callable[[Mapping[str, Any]], bool]
    is_final: bool

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        if self.is_final or self.is_up_to_date(cast("Mapping[str, Any]", body)):
            self.fn(body)


def _guarded(fn: kopf.PatchFn, body: kopf.Body, patch: kopf.Patch, *, is_final: bool) -> Any:
    if is_kopfs_addition(fn):
        return KopfsChange(fn, lambda body: not is_being_deleted(body), is_final=False)
    if not is_kopfs_release(fn):
        return fn
    written, leaves_spec = patch.get("metadata") or {}, "spec" not in patch
    ours = {name: frozenset(written.get(name) or ()) for name in ("labels", "annotations")}

    def basis(body: Mapping[str, Any]) -> Any:
        """What Kopf decides by, as far as its patch does not write it itself."""
        metadata = metadata_of(body)
        labelled = [
            {key: one for key, one in (metadata.get(name) or {}).items() if key not in written}
            for name, written in ours.items()
        ]
        return is_being_deleted(body), labelled, leaves_spec and body.get("spec")

    decided_on = basis(body)
    return KopfsChange(fn, lambda body: basis(body) == decided_on, is_final=is_final)


class Unasked:
    """What is done about such objects.

    Args:
        objects: The objects that the operator writes.
    """

    def __init__(self, objects: WrittenObjects) -> None:
        self.objects: WrittenObjects = objects
        self.known: dict[str, dict[kopf.Resource | None, Written]] = objects.known

    def see(self, body: kopf.Body) -> None:
        """A cycle begins: Kopf has heard of the object."""
        known = self.objects.of(body)
        if known is None or known.stream is not None:
            return
        self.objects.hear_of(known)
        known.is_seen = True
        version = metadata_of(body).get("resourceVersion")
        if version is not None and version == metadata_of(known.body).get("resourceVersion"):
            return  # it is as it was written, or told again
        known.body = small(body)
        known.conflicts = 0
        if known.expected:
            known.expected -= 1
        else:
            known.tries = known.wakes = 0
        is_held = _own_in(known.settings) in finalizers_of(body)
        if is_being_deleted(body):
            is_done = not is_held
        elif known.addition is None and not known.releases:
            is_done = True  # it was woken up
        else:
            is_done = is_held == (known.addition is not None)
        if is_done:
            self.objects.forget(known)

    def ended(
        self,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
    ) -> None:
        """Remember a cleanup that has ended, until the object has gone."""
        if record.get("purpose") == "delete" and is_finished(record):
            known = self.objects.of(body) or self._begun(body, settings, progress)
            known.ended[key] = pure(record)
            known.finished_on = _version_of(body)

    def send(
        self,
        body: kopf.Body,
        patch: kopf.Patch,
        settings: kopf.OperatorSettings,
        progress: kopf.ProgressStorage,
    ) -> None:
        """A patch is about to be sent: look at the object again if nothing is heard of it."""
        known = self.objects.of(body)
        if known is not None and known.stream is not None:
            return  # a daemon's patch
        own = _own_in(settings)
        is_held = own in finalizers_of(body)
        if is_woken := self._drop_leftover(patch, body):
            progress.touch(body=body, patch=patch, value=datetime.now(UTC).isoformat())
        is_final = known is not None and known.finished_on == _version_of(body)
        patch.fns[:] = [_guarded(fn, body, patch, is_final=is_final) for fn in patch.fns]
        changes = any(isinstance(fn, KopfsChange) for fn in patch.fns)
        if not (changes or is_woken or (is_held and is_being_deleted(body))):
            return
        known = known or self._begun(body, settings, progress)
        known.is_seen = False
        known.waiting = (str.__str__(own),)
        releases = tuple(one for one in finalizers_of(body) if changes and one == own)
        addition = str.__str__(own) if changes and not releases else None
        is_repeated = changes and (known.releases, known.addition) == (releases, addition)
        known.lost = LOST if is_repeated else 0
        known.releases, known.addition = releases, addition
        self.objects.look_later(known)

    def _begun(
        self, body: kopf.Body, settings: kopf.OperatorSettings, progress: kopf.ProgressStorage
    ) -> Written:
        return self.objects.begin(settings, progress, None, body, logger_of(body))

    def _drop_leftover(self, patch: kopf.Patch, body: kopf.Body) -> bool:
        """Drop what Kopf would decide otherwise by now, and tell whether nothing is sent then."""
        kept = [fn for fn in patch.fns if not isinstance(fn, KopfsChange) or fn.is_final]
        is_dropped = len(kept) < len(patch.fns)
        patch.fns[:] = kept
        return is_dropped and not has_effect(patch, body)


class WatchedProgress(kopf.MultiProgressStorage):
    """An operator's progress storage, where no filter is asked about objects.

    Args:
        storage: The operator's own.
        settings: Where it is set.
        unasked: What is done about these.
    """

    def __init__(
        self, storage: kopf.ProgressStorage, settings: kopf.OperatorSettings, unasked: Unasked
    ) -> None:
        super().__init__([storage])
        self.observed = storage
        self.settings = settings
        self.written = unasked.objects
        self.unasked = unasked

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come."""
        record = answered(self.observed.fetch(key=key, body=body))
        return remembered(record, self.written.ended(key, body))

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        """Keep how far a handler has come."""
        self.observed.store(key=key, record=record, body=body, patch=patch)
        self.unasked.ended(key, record, body, self.settings, own_of(self))

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Kopf removes its last touch right before it sends a patch: so it is what is sent."""
        if value is None:
            hold_whole_list_back(patch, body)
        self.observed.touch(body=body, patch=patch, value=value)
        self.unasked.send(body, patch, self.settings, own_of(self))

    def flush(self) -> None:
        """Write what is kept elsewhere."""
        self.observed.flush()


def own_of(storage: kopf.ProgressStorage) -> kopf.ProgressStorage:
    """The operator's own storage."""
    while isinstance(storage, WatchedProgress):
        storage = storage.observed
    return storage


def _own_in(settings: kopf.OperatorSettings) -> str:
    return unhidden(settings.persistence.finalizer)


def _version_of(body: Mapping[str, Any]) -> str:
    return str(metadata_of(body).get("resourceVersion"))
