"""What may become of an object, by docs/handlers.md and by nothing else.

No line of the library is used here, and none of its ideas: a life is judged by the versions that
the API server has had of the object, by what handlers saw when they were called, and by what others
did.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .described import MAIN, Described, Handler

Body = dict[str, Any]
Note = dict[str, Any]


@dataclass
class Life:
    """One object: its versions, what handlers wrote down of it, and who else had a hand in it."""

    name: str
    uid: str
    versions: list[Body] = field(default_factory=list)
    is_gone: bool = False
    notes: list[Note] = field(default_factory=list)
    # Versions that others have written, and what they have done.
    others: dict[int, str] = field(default_factory=dict)
    # What happened to requests of the operator for this object, and to the operator meanwhile.
    faults: int = 0
    script: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.noted = set[str]()

    def ended(self, handler: Handler, before: int) -> bool:
        """Whether it had ended, well or not, before a version was written."""
        return any(
            note["handler"] == handler.id
            and note["what"] in ("ended", "given up")
            and note["version"] < before
            for note in self.notes
        )


def finalizers_of(body: Body) -> list[str]:
    return list(body["metadata"].get("finalizers") or [])


def version_of(body: Body) -> int:
    return int(body["metadata"]["resourceVersion"])


def is_deleting(body: Body) -> bool:
    return "deletionTimestamp" in body["metadata"]


def is_own(name: str) -> bool:
    return name == MAIN or name.startswith(f"{MAIN}.")


def judge(life: Life, operator: Described) -> Iterator[str]:
    """Everything that the pages promise, and that has not held."""
    yield from _of_others(life)
    yield from _of_calls(life, operator)
    yield from _of_releases(life, operator)
    yield from _of_fights(life, operator)


def _changes(life: Life) -> Iterator[tuple[Body, Body, bool]]:
    """Each version with the next, and whether the operator has written that."""
    for before, after in pairwise(life.versions):
        yield before, after, version_of(after) not in life.others


def _of_others(life: Life) -> Iterator[str]:
    """Nobody else's finalizer is touched: entries of others, and their order, stay."""
    for before, after, is_operators in _changes(life):
        if not is_operators:
            continue
        theirs = [name for name in finalizers_of(before) if not is_own(name)]
        if theirs != [name for name in finalizers_of(after) if not is_own(name)]:
            yield f"others' finalizers changed: {finalizers_of(before)} -> {finalizers_of(after)}"
        for name in set(finalizers_of(after)):
            count = finalizers_of(after).count(name)
            if is_own(name) and count > max(1, finalizers_of(before).count(name)):
                yield f"{name} is on it twice: {finalizers_of(after)}"


def _taken_by_others(life: Life, name: str, until: int) -> bool:
    return any(
        name in finalizers_of(before) and name not in finalizers_of(after)
        for before, after, is_operators in _changes(life)
        if not is_operators and version_of(after) <= until
    )


def _was_let_go(life: Life, handler: Handler, until: int) -> bool:
    """Whether its finalizer went from the object being deleted since it did not match then."""
    return any(
        handler.finalizer in finalizers_of(before)
        and handler.finalizer not in finalizers_of(after)
        and is_deleting(before)
        and handler.matches(before) is False
        for before, after, is_operators in _changes(life)
        if is_operators and version_of(after) <= until
    )


def _was_on_at_the_end(life: Life, name: str) -> bool:
    """Whether it was on the object when its deletion began: after that nothing comes to it."""
    alive = [body for body in life.versions if not is_deleting(body)]
    return bool(alive) and name in finalizers_of(alive[-1])


def _of_calls(life: Life, operator: Described) -> Iterator[str]:
    """No state-dependent handler with a finalizer runs before that is stored."""
    handlers = {handler.id: handler for handler in operator.handlers}
    for note in life.notes:
        handler = handlers[note["handler"]]
        if note["what"] != "called" or not handler.purpose or not note["version"]:
            continue
        if handler.kind not in ("create", "update", "resume", "field", "delete"):
            continue
        if handler.finalizer in note["finalizers"]:
            continue
        if _taken_by_others(life, handler.finalizer, note["version"]):
            continue
        if note["is deleting"] and not _was_on_at_the_end(life, handler.finalizer):
            continue
        if note["is deleting"] and _was_let_go(life, handler, note["version"]):
            continue  # it matches again, and a finalizer cannot come back then
        if handler.kind == "delete" and life.ended(handler, note["version"]):
            continue  # it is called again after it has ended, which is looked at elsewhere
        yield (
            f"{handler.id} is called without {handler.finalizer},"
            f" at version {note['version']}: {note['finalizers']}"
        )


def _of_releases(life: Life, operator: Described) -> Iterator[str]:
    """A finalizer stays as long as somebody needs it, and until its cleanups have ended."""
    changes = list(_changes(life))
    if life.is_gone and life.versions and version_of(life.versions[-1]) not in life.others:
        last = life.versions[-1]
        nothing = {**last["metadata"], "finalizers": [], "resourceVersion": str(10**12)}
        if "gone by others" not in life.noted:
            changes.append((last, {**last, "metadata": nothing}, True))
    for before, after, is_operators in changes:
        if not is_operators:
            continue
        for name in {*finalizers_of(before)} - {*finalizers_of(after)}:
            if is_own(name):
                for why in _still_needed(life, operator, name, before, version_of(after)):
                    yield f"{name} is released from version {version_of(before)}, and {why}"


def _still_needed(
    life: Life, operator: Described, name: str, body: Body, version: int
) -> Iterator[str]:
    """For whom a finalizer would have had to stay on the object as it was."""
    if not is_deleting(body):
        for handler in operator.handlers:
            if not _guards(handler, name) or handler.matches(body) is False:
                continue
            if name == MAIN and handler.matches(body) is None:
                continue  # Kopf's own answer, which it gives to a filter as it is
            yield f"{handler.id} needs it"
        return
    for cleanup in operator.of("delete"):
        # The operator's own finalizer guards every cleanup: without it Kopf calls none.
        is_guarded = cleanup.finalizer == name or name == MAIN
        if not is_guarded or life.ended(cleanup, version):
            continue
        if _taken_by_others(life, MAIN, version) or MAIN not in finalizers_of(body):
            continue
        if _taken_by_others(life, cleanup.finalizer, version):
            continue
        matches = cleanup.matches(body)
        has_its_own = cleanup.purpose and cleanup.finalizer in finalizers_of(body)
        if not has_its_own and cleanup.filter:
            continue  # guarded as in Kopf, which may have decided on the object as it was before
        if matches or (matches is None and name != MAIN and cleanup.filter != "change"):
            yield f"the cleanup {cleanup.id} has not ended"


def _guards(handler: Handler, name: str) -> bool:
    if handler.purpose:
        needs_kopf = handler.kind in ("delete", "daemon", "timer")
        return handler.finalizer == name or (name == MAIN and needs_kopf)
    return name == MAIN and handler.kind in ("delete", "daemon", "timer")


def _of_fights(life: Life, operator: Described) -> Iterator[str]:
    """An object comes to rest: nothing is put on and taken off without end, or done again."""
    written = [after for _, after, is_operators in _changes(life) if is_operators]
    steps = len(life.script) + len(life.others) + life.faults
    if len(written) > 40 + 6 * steps * max(1, len(operator.handlers)):
        yield f"{len(written)} writes of the operator"
    for name in {MAIN, *(handler.finalizer for handler in operator.handlers)}:
        added = sum(
            name not in finalizers_of(before) and name in finalizers_of(after)
            for before, after, is_operators in _changes(life)
            if is_operators
        )
        if added > 3 + steps:
            yield f"{name} was added {added} times"
    for handler in operator.of("delete"):
        if not handler.purpose:
            continue  # as in Kopf, which calls handlers again where its own writes come back late
        ends = sum(
            note["handler"] == handler.id and note["what"] in ("ended", "given up")
            for note in life.notes
        )
        if ends > 1 + life.faults:
            yield f"{handler.id} has ended {ends} times, with {life.faults} faults"


def left_undone(life: Life, operator: Described) -> Iterator[str]:
    """Cleanups of an object that is gone, which nothing explains."""
    if not life.is_gone or not life.versions or MAIN not in finalizers_of(life.versions[-1]):
        return  # or what was released before was judged where it was
    if "gone by others" in life.noted:
        return
    last = life.versions[-1]
    alive = [body for body in life.versions if not is_deleting(body)]
    guarded = finalizers_of(alive[-1]) if alive else []
    for cleanup in operator.of("delete"):
        if cleanup.matches(last) is not True or life.ended(cleanup, 10**12):
            continue
        if not cleanup.purpose and cleanup.filter:
            continue  # as above
        if any(note["handler"] == cleanup.id and note["what"] != "called" for note in life.notes):
            continue
        if not {MAIN, cleanup.finalizer} <= {*guarded}:
            continue  # deleted before it was guarded
        if any(_taken_by_others(life, name, 10**12) for name in (MAIN, cleanup.finalizer)):
            continue
        yield f"gone, and the cleanup {cleanup.id} was never done"
