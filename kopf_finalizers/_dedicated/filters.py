"""Whether a handler's filters hold for an object: yes, no, or not known.

Kopf (1.44 to 1.45) asks the filters of a handler in this order, and no further once one says no:
`labels=`, `annotations=`, `field=` with `value=`, `when=`. So does this module, in the first step
of a cycle, for handlers that Kopf asks about later. What it cannot know by then makes an answer
*not known* (None):

* `old`, `new`, `diff` and `reason`, which Kopf tells handlers of changes only;
* `memo`, which `on.event` handlers may fill before the others are asked.

A callback that names one of these among its parameters is not asked. One that may take it from its
`**kwargs` is given something in its place that notices every use. `old=` and `new=` are about a
change, and so no filters of an object: they are left out.

`tests/contract/test_filters.py` compares this reading with Kopf's own.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import kopf

from .._bodies import metadata_of
from .._kopf import answered

Answer: TypeAlias = bool | None
"""Whether a filter holds; None where that is not known."""

STATE_DEPENDENT: Final = frozenset({"create", "resume", "update", "delete", "field"})
"""The handlers of changes: Kopf compares for them what an object was when it was last handled."""

FILTERS: Final = frozenset({"labels", "annotations", "field", "value", "when"})
"""What a decorator takes to select objects by what they are."""

# What an event does not tell, by whom Kopf asks later.
_UNKNOWN_TO: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(STATE_DEPENDENT, frozenset({"old", "new", "diff", "reason", "memo"})),
    **dict.fromkeys(("daemon", "timer"), frozenset({"memo"})),
    "event": frozenset(),
}
_OF_EVENTS: Final = frozenset({"type", "event"})


class Seen:
    """An object as it is seen in one cycle: what filters are asked about.

    Args:
        kwargs: What Kopf gives to a filter of `on.event`.
        progress: Where the operator keeps how far its handlers have come.
        diffbase: Where it keeps what was handled last.
    """

    def __init__(
        self,
        kwargs: Mapping[str, Any],
        *,
        progress: kopf.ProgressStorage,
        diffbase: kopf.DiffBaseStorage,
    ) -> None:
        self.body: kopf.Body = kwargs["body"]
        metadata = metadata_of(self.body)
        self.finalizers: list[str] = metadata.get("finalizers") or []
        self.is_being_deleted: bool = bool(metadata.get("deletionTimestamp"))
        self.progress = progress
        self._diffbase = diffbase
        self._kwargs = kwargs
        self._told = dict[str, tuple[dict[str, Any], dict[str, Any]]]()

    def again(self, body: Mapping[str, Any]) -> "Seen":
        """The same object, as somebody else's writes have left it meanwhile."""
        seen: Any = kopf.Body(body)  # type: ignore[arg-type]
        fields = {
            "body": seen,
            "spec": seen.spec,
            "meta": seen.metadata,
            "status": seen.status,
            "labels": seen.metadata.labels,
            "annotations": seen.metadata.annotations,
        }
        kwargs = {**self._kwargs, **fields}
        return Seen(kwargs, progress=self.progress, diffbase=self._diffbase)

    def told(self, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a filter of such a handler is told, with what is not known in two forms."""
        if kind not in self._told:
            unknown = _UNKNOWN_TO[kind]
            kept = self._kwargs
            if kind != "event":
                kept = {key: value for key, value in kept.items() if key not in _OF_EVENTS}
            self._told[kind] = (
                {**kept, **dict.fromkeys(unknown, _UNKNOWN)},
                {**kept, **dict.fromkeys(unknown)},
            )
        return self._told[kind]

    @functools.cached_property
    def last_state(self) -> Mapping[str, Any] | None:
        """What was handled last, as Kopf compares it."""
        last = answered(self._diffbase.fetch(body=self.body))
        return None if last is None else self.progress.clear(essence=last)

    def state(self, path: tuple[str, ...]) -> Mapping[str, Any]:
        """What is there to be handled of one field, as Kopf compares it."""
        found = _resolved(self.body, path)
        reduced: dict[str, Any] = {"metadata": dict(self.body.metadata)}
        if found is not _ABSENT and path[0] != "metadata":
            reduced |= functools.reduce(lambda inner, key: {key: inner}, reversed(path), found)
        body: Any = kopf.Body(reduced)  # type: ignore[arg-type]
        essence = self._diffbase.build(body=body, extra_fields=[path])
        return self.progress.clear(essence=essence)


_Check: TypeAlias = Callable[[Seen], Answer]


class Filters:
    """The filters of one handler, as its decorator was given them."""

    def __init__(self, kind: str = "event", given: Mapping[str, Any] | None = None) -> None:
        given = given or {}
        self._checks = list[_Check]()
        for name in ("labels", "annotations"):
            if given.get(name):
                self._checks.append(_of_metadata(kind, name, given[name]))
        if path := _path(given.get("field")):
            self._checks.append(_of_field(kind, path, given.get("value")))
        if given.get("when") is not None:
            self._checks.append(_asking(kind, given["when"]))

    @property
    def hold_always(self) -> bool:
        """Whether there are none."""
        return not self._checks

    def hold(self, seen: Seen) -> Answer:
        """Whether all of them hold for an object; errors of callbacks are the user's to see."""
        answer: Answer = True
        for check in self._checks:
            found = check(seen)
            if found is False:
                return False
            answer = answer and found
        return answer


def _path(field: str | Iterable[str] | None) -> tuple[str, ...]:
    if field is None:
        return ()
    return tuple(field.split(".") if isinstance(field, str) else field)


def _of_metadata(kind: str, name: str, wanted: Mapping[str, Any]) -> _Check:
    """A filter of labels or of annotations."""
    callbacks = {key: _callback(kind, one) for key, one in wanted.items() if callable(one)}

    def check(seen: Seen) -> Answer:
        content = (seen.body.get("metadata") or {}).get(name) or {}
        answer: Answer = True
        for key, value in wanted.items():
            if key in callbacks:
                found = callbacks[key](seen, content.get(key))
            elif value is kopf.ABSENT or value is kopf.PRESENT:
                found = (key in content) is (value is kopf.PRESENT)
            else:
                found = key in content and content[key] == value
            if found is False:
                return False
            answer = answer and found
        return answer

    return check


def _of_field(kind: str, path: tuple[str, ...], wanted: Any) -> _Check:
    """A filter of a field: for handlers of changes it may hold for what was handled last, too."""
    asked = _callback(kind, wanted) if callable(wanted) else None

    def is_wanted(seen: Seen, found: Any) -> Answer:
        if wanted is None or wanted is kopf.PRESENT:
            return found is not _ABSENT
        if wanted is kopf.ABSENT:
            return found is _ABSENT
        if asked is not None and (answer := asked(seen, found)) is not False:
            return answer
        return bool(wanted == found)

    def check(seen: Seen) -> Answer:
        if kind not in STATE_DEPENDENT:
            return is_wanted(seen, _resolved(seen.body, path))
        now = is_wanted(seen, _resolved(seen.state(path), path))
        if now:
            return now
        before = is_wanted(seen, _resolved(seen.last_state, path))
        return before or (now if before is False else None)

    return check


def _asking(kind: str, when: Callable[..., Any]) -> _Check:
    return _callback(kind, when)


def _callback(kind: str, fn: Callable[..., Any]) -> Callable[..., Answer]:
    """What asks a callback, and tells an answer from one that is not known."""
    if not _UNKNOWN_TO[kind].isdisjoint(_parameters(fn)):
        return lambda *_: None

    def ask(seen: Seen, *args: Any) -> Answer:
        noticed, unnoticed = seen.told(kind)
        try:
            if fn(*args, **noticed):
                return True
        except _UnknownError:
            return None
        if not _UNKNOWN_TO[kind]:
            return False
        # `is None` is the one question that cannot be noticed.
        try:
            return None if fn(*args, **unnoticed) else False
        except Exception:  # it was told None where there may never be None
            return None

    return ask


def _parameters(fn: Callable[..., Any]) -> Iterable[str]:
    try:
        return inspect.signature(fn).parameters
    except ValueError:  # of some builtins
        return ()


def _resolved(where: Any, path: Iterable[str]) -> Any:
    for key in path:
        if not isinstance(where, Mapping) or key not in where:
            return _ABSENT
        where = where[key]
    return where


_ABSENT: Final = object()


class _UnknownError(BaseException):
    """A filter has asked for something that is not known.

    A filter that expects to fail, `except Exception`, must not take it for its own failure.
    """


class _Unknown:
    """In place of what is not known: every use of it is noticed."""

    def _used(self, *_: Any, **__: Any) -> Any:
        raise _UnknownError

    __bool__ = __contains__ = __eq__ = __getattr__ = __getitem__ = __iter__ = __len__ = _used
    __hash__ = __str__ = __format__ = __lt__ = __le__ = __gt__ = __ge__ = _used
    __call__ = __setitem__ = __delitem__ = __setattr__ = __delattr__ = _used
    # So that isinstance() is noticed, too.
    __class__ = property(_used)


_UNKNOWN: Final = _Unknown()
