"""Changes of one finalizer as Kopf calls them: functions on `patch.fns` (Kopf 1.44 to 1.45).

Kopf calls them with the freshest body, and again after a conflict.
"""

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from ._bodies import edited, finalizers_of
from ._kopf import body_of
from ._whole_list import refuse_whole_list


@dataclass(frozen=True, repr=False)
class Change(ABC):
    """A function for `patch.fns`: safe to call again, on any body, as often as Kopf likes."""

    name: str
    patch: kopf.Patch | None = field(default=None, compare=False)
    sending: "Callable[[Change, Mapping[str, Any]], None] | None" = field(
        default=None, compare=False, kw_only=True
    )
    """Told when it is about to be sent, by whoever sends it again if it is lost."""

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        if self.patch is not None:
            refuse_whole_list(self.patch)
        raw = cast("dict[str, Any]", body)
        if self.sending is not None:
            self.sending(dataclasses.replace(self, patch=None, sending=None), raw)
        after = self.applied(raw)
        if after != finalizers_of(raw):
            raw["metadata"] = {**(raw.get("metadata") or {}), "finalizers": after}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def has_effect(self, body: Mapping[str, Any]) -> bool:
        """Whether there is anything to do on that body."""
        return self.applied(body) != finalizers_of(body)

    @abstractmethod
    def applied(self, body: Mapping[str, Any]) -> list[str]:
        """The list of that body as it should be."""


class AddFinalizer(Change):
    """Adds one finalizer, unless it is there or the object is being deleted."""

    def applied(self, body: Mapping[str, Any]) -> list[str]:
        """The list with the finalizer at its end."""
        return edited(body, add=self.name)


class RemoveFinalizer(Change):
    """Removes one finalizer, with all its duplicates."""

    def applied(self, body: Mapping[str, Any]) -> list[str]:
        """The list without the finalizer."""
        return edited(body, remove={self.name})


@dataclass(frozen=True, repr=False)
class RemoveUnwanted(RemoveFinalizer):
    """Removes a finalizer that no handler wants, unless one does on the body that it is given.

    Kopf sends a change late: after a merge patch, or after a conflict in a later cycle.
    """

    is_wanted: Callable[[Mapping[str, Any]], bool] = field(kw_only=True, compare=False)

    def applied(self, body: Mapping[str, Any]) -> list[str]:
        """The list without the finalizer, where no handler wants it."""
        there = self.name in finalizers_of(body)
        return finalizers_of(body) if there and self.is_wanted(body) else super().applied(body)


@dataclass(frozen=True, repr=False)
class ReplaceFinalizer(Change):
    """Puts a finalizer in the place of others, where any of them is there."""

    former: frozenset[str] = frozenset()

    def applied(self, body: Mapping[str, Any]) -> list[str]:
        """The list with the finalizer where the first of the others was, and without those."""
        before = finalizers_of(body)
        if self.former.isdisjoint(before):
            return before
        return edited(body, add=self.name, remove=self.former)


@dataclass(frozen=True)
class Finalizer:
    """A finalizer with the names that it had before: one value for whoever brings it on or off.

    Args:
        name: Its name.
        former: The names that it had, which are recognised too.
        keeps_former: Whether objects still get the first of these, so that a rollback to a release
            that knows no other is possible.
    """

    name: str
    former: tuple[str, ...] = ()
    keeps_former: bool = False

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """All names under which it may be on an object."""
        return self.name, *self.former

    @functools.cached_property
    def written(self) -> str:
        """The name that objects get."""
        return self.former[0] if self.keeps_former and self.former else self.name

    @functools.cached_property
    def left(self) -> frozenset[str]:
        """The names in whose place that one is put.

        While a former name is kept, the new one is left from before a rollback.
        """
        return frozenset({self.name} if self.keeps_former else self.former) - {self.written}

    def found(self, present: Collection[str]) -> tuple[str, ...]:
        """Those of its names that are there."""
        if not self.former:
            return (self.name,) if self.name in present else ()
        return tuple(name for name in self.names if name in present)

    def addition(self, body: Mapping[str, Any], patch: kopf.Patch | None = None) -> Change:
        """What brings it on a body; a name that it leaves makes way."""
        there = self.found(finalizers_of(body))
        if not self.left.isdisjoint(there):
            return ReplaceFinalizer(self.written, patch, former=self.left)
        return AddFinalizer(there[0] if there else self.written, patch)


class MergeIntoBody:
    """Puts into Kopf's JSON Patch what would have been a merge patch of its own."""

    def __init__(self) -> None:
        self.patch = kopf.Patch()

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        _merge(cast("dict[str, Any]", body), self.patch)
        for fn in self.patch.fns:
            fn(body)

    def __repr__(self) -> str:
        return f"MergeIntoBody({dict(self.patch)})"


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """A merge patch (RFC 7386) applied in place."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], value)
        else:
            target[key] = value


def append(patch: kopf.Patch, change: Change) -> None:
    """Put a change on `patch.fns`, unless it would change nothing.

    To leave it out matters: Kopf (1.44 to 1.45) takes a patch with any function for one that will
    be sent, and does not wake up for handlers that wait for their retry. One that then sends
    nothing would leave them waiting until somebody else changes the object.
    """
    refuse_whole_list(patch)
    pending = [fn for fn in patch.fns if isinstance(fn, Change) and fn.name == change.name]
    if pending:
        if pending[-1] != change:
            patch.fns.append(change)
        return
    body = body_of(patch)
    if body is None or change.has_effect(body):
        patch.fns.append(change)


def has_effect(patch: kopf.Patch, body: kopf.Body) -> bool:
    """Whether a patch would change anything, so that an event follows when Kopf has sent it."""
    raw = cast("kopf.RawBody", dict(body))  # Kopf 1.44 wants a plain dict
    return bool(patch.as_json_patch(raw))


def wake_up(settings: kopf.OperatorSettings, body: kopf.Body, patch: kopf.Patch) -> None:
    """Make Kopf come back to an object, in a cycle that would send nothing.

    Kopf (1.44 to 1.45) calls no state-dependent handler in a cycle that begins with functions left
    over from a conflict. When these turn out to change nothing, nothing is sent, so no event
    follows, and the handlers would not be called until somebody else changes the object.
    """
    value = datetime.now(UTC).isoformat()
    settings.persistence.progress_storage.touch(body=body, patch=patch, value=value)
