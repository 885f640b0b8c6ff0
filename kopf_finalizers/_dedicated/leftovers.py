"""What Kopf could not send in the cycle before, and what it would send too late.

After a 422, a conflict to Kopf (1.44 to 1.45), the functions of a patch are kept for the next
cycle, and that one calls no handler. So they are looked through on the body that is there now.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import kopf

from .._bodies import finalizers_of, is_being_deleted
from .._changes import AddFinalizer, Change, MergeIntoBody, RemoveUnwanted
from .._kopf import is_kopfs_release
from .uses import Wanted


def look_through(
    patch: kopf.Patch, body: kopf.Body, wanted: tuple[Wanted, ...], logger: kopf.Logger
) -> None:
    """Drop what is out of date or would be refused, and have progress go first."""
    for moved in [fn for fn in patch.fns if isinstance(fn, MergeIntoBody)]:
        patch.fns.remove(moved)
        patch.metadata.annotations.update(moved.patch["metadata"]["annotations"])
    if is_being_deleted(body):
        patch.fns[:] = [fn for fn in patch.fns if not _is_refused(fn, body=body, logger=logger)]
    else:
        names = {name for one in wanted for name in one.finalizer.names}
        patch.fns[:] = [fn for fn in patch.fns if not (isinstance(fn, Change) and fn.name in names)]


def _is_refused(fn: kopf.PatchFn, *, body: kopf.Body, logger: kopf.Logger) -> bool:
    """Whether it would add a finalizer to an object being deleted.

    An API server refuses such a patch as a whole and Kopf keeps it for the next cycle, for ever:
    neither a cleanup would be called nor a finalizer removed.
    """
    raw = _tried(fn, body)
    added = set(finalizers_of(raw)) - set(finalizers_of(body))
    if added and not isinstance(fn, Change):
        logger.debug(f"Dropping {fn!r}: the object is being deleted, and gets no {added} any more.")
    return bool(added) or isinstance(fn, AddFinalizer)


@dataclass(frozen=True)
class RemoveKopfs:
    """Kopf's removal of its own finalizer, unless a dedicated one is wanted by then.

    Kopf decides that no handler matches as this library does, and sends it as late.
    """

    fn: kopf.PatchFn
    unwanted: tuple[RemoveUnwanted, ...]

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        raw = cast("dict[str, Any]", body)
        present = finalizers_of(raw)
        if not any(one.name in present and one.is_wanted(raw) for one in self.unwanted):
            self.fn(body)


def guard_kopfs_own(patch: kopf.Patch, body: kopf.Body, own: str) -> None:
    """Have Kopf's own finalizer stay where a dedicated one does, after all, when it is sent."""
    unwanted = tuple(fn for fn in patch.fns if isinstance(fn, RemoveUnwanted))
    if unwanted:
        patch.fns[:] = [
            RemoveKopfs(fn, unwanted) if takes_off(own, fn, body) else fn for fn in patch.fns
        ]


def takes_off(own: str, fn: kopf.PatchFn, body: kopf.Body) -> bool:
    """Whether it is Kopf's removal of its own finalizer: known by what it does."""
    if isinstance(fn, Change | RemoveKopfs) or own not in finalizers_of(body):
        return False
    # What it does is tried on a copy of the object, which costs as much as all else in a cycle.
    return is_kopfs_release(fn) or own not in finalizers_of(_tried(fn, body))


def is_about(own: str, fn: kopf.PatchFn, body: kopf.Body) -> bool:
    """Whether it is Kopf's addition or removal of its own finalizer: known by what it does."""
    if takes_off(own, fn, body):
        return True
    others = [name for name in finalizers_of(body) if name != own]
    bare = {**body, "metadata": {**body["metadata"], "finalizers": others}}
    return not isinstance(fn, Change | RemoveKopfs) and own in finalizers_of(_tried(fn, bare))


def _tried(fn: kopf.PatchFn, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a function makes of a body: of a copy."""
    raw = copy.deepcopy(dict(body))
    fn(cast("kopf.RawBody", raw))
    return raw
