"""The progress storage: where a cleanup is seen to be finished, and how progress is sent.

Kopf (1.44 to 1.45) tells the progress storage how each attempt of a handler ended, whatever the
handler is: sync or async, with sub-handlers, given up after its retries. And it asks it what
handlers wait for: so it keeps them waiting in the one cycle that puts a missing finalizer on the
object.

Kopf collects what it writes in a merge patch, and sends that before the JSON Patch with which
finalizers go. In a cycle that releases a finalizer, the annotations of the merge patch move into
the JSON Patch, at the last moment before it is sent. So a release costs no request, and an operator
killed in between cannot leave one without the other. They stay where Kopf has them

* where the merge patch is sent anyway, with a status say: progress first, and then the release;
* after a conflict or a refusal: what had moved goes back into a merge patch, which has no `test`,
  and so gets through beside somebody who writes without pause.
"""

from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import cast

import kopf

from .._changes import MergeIntoBody
from .._deletions.deletions import Deletions
from .._errors import ConfigurationError
from .._kopf import answered
from .._recognised import unhidden
from .._whole_list import hold_whole_list_back
from .cycle import Cycle, is_finished
from .effects import leave_out
from .ended import pure, remembered
from .leftovers import guard_kopfs_own
from .streams import Streams
from .unasked import Unasked, WatchedProgress, own_of


class ObservedProgress(WatchedProgress):
    """An operator's progress storage, with this module looking on.

    Args:
        storage: The operator's own.
        settings: Where it is set.
        current: What is known in the current cycle, if there is one.
        deletions: The objects being deleted that the operator holds.
        streams: What is known of objects in several of Kopf's streams.
        unasked: What is done about objects that no filter is asked about.
    """

    def __init__(
        self,
        storage: kopf.ProgressStorage,
        settings: kopf.OperatorSettings,
        current: Callable[[], Cycle | None],
        deletions: Deletions,
        streams: Streams,
        unasked: Unasked,
    ) -> None:
        super().__init__(storage, settings, unasked)
        self._current = current
        self._deletions = deletions
        self._streams = streams
        # Whether Kopf has asked this storage in this cycle.
        self._asked: ContextVar[bool] = ContextVar("asked", default=False)

    def refuse_other_settings(self) -> None:
        """Notice that Kopf runs with other settings than those that were made ready.

        Raises:
            ConfigurationError: It does.
        """
        if not self._asked.get():
            raise ConfigurationError(
                "This operator has dedicated finalizers, and runs with other settings than those"
                " that its identity was applied to, so nothing would take them off in time: pass"
                " those to Kopf, as in kopf.run(settings=settings) or kopf.operator(...), or use"
                " configure(), which takes Kopf's own. [not-applied]"
            )
        self._asked.set(False)

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Kopf asks for this in every cycle, before it asks any filter."""
        self._asked.set(True)
        self._streams.begin()
        return answered(self.observed.clear(essence=essence))

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come; not far enough to be called while a finalizer is missing."""
        record = answered(self.observed.fetch(key=key, body=body))
        cycle = self._current()
        if cycle is not None and _is_of_a_creation(record) and cycle.waits_for(key):
            # Kopf would take what is left of a creation for this deletion's progress, and a
            # creation that has succeeded for a cleanup that has.
            record = None
        record = remembered(record, self.written.ended(key, body))
        record = self._deletions.asked(key, body, self._deletions.read(key, body, record))
        if cycle is None or not cycle.postponed or is_finished(record):
            return record
        # Not stored (see below), so it only has to be later than the end of this cycle.
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return cast("kopf.ProgressRecord", {**(record or {}), "delayed": later})

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        """Keep how far a handler has come, and release what waited for it alone."""
        cycle = self._current()
        if cycle is not None and cycle.postponed:
            return
        self.observed.store(key=key, record=record, body=body, patch=patch)
        self._deletions.attempted(key, body, record)
        written = self.written.of(body)
        if cycle is None:
            self.unasked.ended(key, record, body, self.settings, own_of(self))
        elif written is not None and is_finished(record) and record.get("purpose") == "delete":
            written.ended[key] = pure(record)
        if cycle is not None and is_finished(record):
            cycle.finish(key, record, patch)

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Forget how far a handler has come, unless others still hold its object, or daemons do."""
        cycle = self._current()
        if self._streams.keep_progress or (cycle is not None and cycle.keeps_progress):
            ended = self.written.ended(key, body)
            record = ended or self.observed.fetch(key=key, body=body)
            if record is None or record.get("purpose") == "delete":
                return
        self.observed.purge(key=key, body=body, patch=patch)

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Kopf removes its last touch right before it sends a patch: so it is what is sent."""
        cycle, own = self._current(), unhidden(self.settings.persistence.finalizer)
        if value is None:
            hold_whole_list_back(patch, body)
            self._streams.hold(patch, body)
            if cycle is not None:
                cycle.hold_declared_back(patch)
                cycle.hold_own(patch, body, own)
                leave_out(patch, cycle.taken, own)
        if value is not None or patch:
            self.observed.touch(body=body, patch=patch, value=value)
        if value is None:
            self._deletions.sending(body, patch)
        if value is None and cycle is not None and cycle.patch is patch:
            guard_kopfs_own(patch, body, own)
            if cycle.releases_with(patch) and not self._streams.are_several(patch):
                _move_annotations(patch)
        if cycle is None:
            self.unasked.send(body, patch, self.settings, own_of(self))
        elif (cycle.patch is patch) is (value is None):
            others = self._streams.to_wait_for(patch)
            self.written.send(cycle, body, patch, self.settings, own_of(self), others=others)


def _is_of_a_creation(record: kopf.ProgressRecord | None) -> bool:
    return record is not None and record.get("purpose") != "delete"


def _move_annotations(patch: kopf.Patch) -> None:
    """Have what is written go with the functions, unless a merge patch is sent anyway."""
    if patch.keys() == {"metadata"} and patch["metadata"].keys() == {"annotations"}:
        moved = MergeIntoBody()
        moved.patch.update(patch)
        del patch["metadata"]
        # Kopf applies a merge patch before it calls any function.
        patch.fns.insert(0, moved)


def is_observed_by(storage: kopf.ProgressStorage, observing: ObservedProgress) -> bool:
    """Whether it asks that one: where an operator has two `Finalizers`, both observe."""
    while isinstance(storage, ObservedProgress):
        if storage is observing:
            return True
        storage = storage.observed
    return False
