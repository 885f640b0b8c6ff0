"""What a watch has seen of an object's finalizers, in a form that tests can state."""

from collections import Counter

from .servers import Watched


def history(seen: Watched, name: str) -> list[list[str]]:
    """The lists of finalizers that the object had, one after the other."""
    lists = list[list[str]]()
    for type_, body in seen.of(name):
        finalizers = body["metadata"].get("finalizers") or []
        if type_ != "DELETED" and (not lists or lists[-1] != finalizers):
            lists.append(finalizers)
    return lists


def turnover(seen: Watched, name: str) -> dict[str, tuple[int, int]]:
    """For each finalizer: how often it was added, and how often it was taken off.

    An object that goes takes its last finalizers with it, so that counts as taken off.
    """
    added, removed = Counter[str](), Counter[str]()
    before = set[str]()
    for type_, body in seen.of(name):
        now = set(body["metadata"].get("finalizers") or []) if type_ != "DELETED" else set[str]()
        added.update(now - before)
        removed.update(before - now)
        before = now
    return {finalizer: (added[finalizer], removed[finalizer]) for finalizer in sorted(added)}
