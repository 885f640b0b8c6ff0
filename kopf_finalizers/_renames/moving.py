"""Objects that are alive get the names of a release, and their records its place, when next seen.

With `"switch"`, an object that still carries a former name or a former record gets the new ones in
their place, in one atomic patch. With `"recognise"` it is the other way round: that happens after a
rollback from `"switch"`, so that the release before can follow. To an object being deleted nothing
is added: it is released whichever names it carries.
"""

from typing import Any

import kopf

from .._bodies import finalizers_of, is_being_deleted
from .._changes import AddFinalizer, Change, ReplaceFinalizer, wake_up
from .._description import describe
from .._moves import Moves
from .._settings import Unchanged
from .declared import Rename
from .records import Records, RecordsInPlace


class Mover:
    """Moves each object once, as a filter that Kopf asks about each event of its resource."""

    def __init__(
        self,
        rename: Rename,
        settings: kopf.OperatorSettings,
        records: Records | None,
        moves: Moves,
        unchanged: Unchanged,
    ) -> None:
        self._rename = rename
        self._settings = settings
        self._records = records
        self._moves = moves
        self._unchanged = unchanged
        self._replace = ReplaceFinalizer(rename.finalizer.written, former=rename.finalizer.left)

    def look(
        self,
        *,
        body: kopf.Body,
        patch: kopf.Patch,
        type: str | None,  # noqa: A002 - Kopf's name
        logger: kopf.Logger,
        **_: Any,
    ) -> bool:
        """A filter that moves an object, and never lets Kopf call the handler."""
        self._unchanged.check(body)
        _take_up_left_over(patch)
        if type != "DELETED":
            self._move(body, patch, logger)
        if type == "DELETED" or is_being_deleted(body):
            self._moves.forget(body)
            if self._records is not None:
                self._records.forget(body)
        if patch.fns and not _has_effect(patch, body):
            wake_up(self._settings, body, patch)
        return False

    def _move(self, body: kopf.Body, patch: kopf.Patch, logger: kopf.Logger) -> None:
        change, brings = self._change(body), self._brings(body)
        if change is None and not brings:
            self._moves.see(body)
            return
        if not self._moves.may_make(body):
            return
        if not self._moves.is_made(body):
            what = (
                "records" if change is None else "finalizer and records" if brings else "finalizer"
            )
            if change is not None and not (self._rename.is_back or self._rename.former_is_shared):
                there = [name for name in finalizers_of(body) if name in self._rename.former]
                self._moves.look_at_birth(body, there, self._rename.name)
            known = describe(body, self._rename.identity, self._rename.former)
            logger.info(f"Moving {what} to those of {self._rename.finalizer.written}: {known}.")
        self._moves.make(body)
        due = self._records.bring_home(body, patch) if self._records and brings else {}
        if change is not None and change not in patch.fns:
            patch.fns.append(change)
        if not any(isinstance(fn, RecordsInPlace) for fn in patch.fns):
            patch.fns.append(RecordsInPlace(patch, may_take=due))

    def _brings(self, body: kopf.Body) -> bool:
        """Whether there are records to bring."""
        # Released by "switch", it is never met by a release that knows no other place.
        stays = is_being_deleted(body) and not self._rename.is_back
        return self._records is not None and not stays and self._records.must_move(body)

    def _change(self, body: kopf.Body) -> Change | None:
        """What is to be done about the names: nothing on an object that is being deleted."""
        if not self._replace.has_effect(body):
            return None
        lacks = self._replace.name not in finalizers_of(body)
        if self._rename.is_back or not self._rename.former_is_shared:
            # Once for each object. What comes back beside it after that was put there by somebody
            # else with the same former name, and to take it away again and again would never end.
            return self._replace if lacks or not self._moves.is_made(body) else None
        if not lacks:
            return None
        # On an object that is younger than this process, the former name is somebody else's.
        is_younger = self._moves.is_younger(body)
        return AddFinalizer(self._rename.name) if is_younger else self._replace


def _take_up_left_over(patch: kopf.Patch) -> None:
    """Send records that have lost their race as Kopf sends all others."""
    for fn in patch.fns:
        if isinstance(fn, RecordsInPlace):
            fn.take_up(patch)


def _has_effect(patch: kopf.Patch, body: kopf.Body) -> bool:
    """Whether the patch would change anything, so that Kopf sees the object again."""
    raw: Any = dict(body)  # Kopf 1.44 wants a plain dict
    return bool(patch.as_json_patch(raw))
