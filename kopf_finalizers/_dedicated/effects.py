"""What a patch does about finalizers, and a change of them that the library sends by itself."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import kopf

from .._bodies import edited, finalizers_of, is_being_deleted, metadata_of
from .._changes import Change, RemoveFinalizer, RemoveUnwanted
from .._kopf import is_kopfs_addition, is_kopfs_release
from .leftovers import RemoveKopfs


def brings(fn: kopf.PatchFn, body: kopf.Body) -> bool:
    """Whether an object that is alive is looked at again until that has come through."""
    return fn.has_effect(body) if isinstance(fn, Change) else is_kopfs_addition(fn)


def releases(
    patch: kopf.Patch, body: kopf.Body, own: str, *, for_good: bool = False
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
