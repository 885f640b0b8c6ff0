"""What a patch does about finalizers, and a change of them that the library sends by itself."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

import kopf

from .._bodies import edited, finalizers_of, is_being_deleted, metadata_of
from .._changes import Change, RemoveFinalizer, RemoveUnwanted
from .._kopf import RefusedError, is_kopfs_addition, is_kopfs_release
from .leftovers import RemoveKopfs


def brings(fn: kopf.PatchFn, body: Mapping[str, Any]) -> bool:
    """Whether an object that is alive is looked at again until that has come through."""
    return fn.has_effect(body) if isinstance(fn, Change) else is_kopfs_addition(fn)


def releases(
    patch: kopf.Patch, body: Mapping[str, Any], own: str, *, for_good: bool = False
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


def leave_out(patch: kopf.Patch, taken: Collection[str], own: str) -> None:
    """Have a patch not take off what has gone by itself, though an event of before has it still.

    It would lose its race for certain, and so with each such event: Kopf would be ever later.
    """

    def takes(fn: kopf.PatchFn) -> bool:
        if isinstance(fn, RemoveFinalizer):
            return fn.name in taken
        return own in taken and is_kopfs_release(fn.fn if isinstance(fn, RemoveKopfs) else fn)

    if taken:
        patch.fns[:] = [fn for fn in patch.fns if not takes(fn)]


async def take_off(
    names: Collection[str],
    body: Mapping[str, Any],
    send: Callable[[object, str], Awaitable[Mapping[str, Any]]],
) -> None:
    """Take finalizers off an object as it is now, which may be later than was seen last.

    Raises:
        RefusedError: The API server does not take it, or the list has changed three times.
    """
    same, races = {"metadata": {"uid": metadata_of(body).get("uid")}}, 3
    while True:
        # It changes nothing, and is answered with the object: Kopf needs no other right, either.
        fresh = await send(same, "application/merge-patch+json")
        if set(names).isdisjoint(finalizers_of(fresh)):
            return
        operations, races = changed(fresh, remove=names), races - 1
        try:
            await send(operations, "application/json-patch+json")
        except RefusedError as refusal:
            if refusal.status != 422 or not races:
                raise
        else:
            return


def changed(
    body: Mapping[str, Any], *, add: str | None = None, remove: Collection[str] = ()
) -> list[dict[str, Any]]:
    """A JSON Patch that changes the finalizers of this object, if its list is what it was."""
    uid = {"op": "test", "path": "/metadata/uid", "value": metadata_of(body).get("uid")}
    path, before = "/metadata/finalizers", finalizers_of(body)
    after = edited(body, add=add, remove=set(remove))
    return [
        uid,
        {"op": "test", "path": path, "value": before or None},
        {"op": "replace" if before else "add", "path": path, "value": after},
    ]
