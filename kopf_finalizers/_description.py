"""Whose the finalizers of an object are, for log lines and for people."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ._bodies import finalizers_of, is_being_deleted
from ._identity import OperatorIdentity


@dataclass(frozen=True)
class Description:
    """Whose the finalizers of one object are, in the order in which they stand on it.

    `own` are those of this operator, `former` those that it had and recognises, `foreign` everybody
    else's. `is_stuck` tells that the object is being deleted and that this operator has nothing to
    take off it any more: it waits for others, for ever if nobody takes their finalizers off.

    Example:
        >>> description = finalizers.describe({"metadata": {"finalizers": ["other.org/f"]}})
        >>> print(description)
        alive; foreign other.org/f
    """

    own: tuple[str, ...]
    former: tuple[str, ...]
    foreign: tuple[str, ...]
    is_being_deleted: bool
    is_stuck: bool

    def __str__(self) -> str:
        parts = [("own", self.own), ("former", self.former), ("foreign", self.foreign)]
        shown = "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)
        state = "being deleted" if self.is_being_deleted else "alive"
        return f"{state}; {shown or 'no finalizers'}{'; stuck' if self.is_stuck else ''}"


def describe(
    body: Mapping[str, Any],
    identity: OperatorIdentity,
    former: Collection[str],
    dedicated: Collection[str] = (),
) -> Description:
    """Whose the finalizers of one object are; `dedicated` are those that handlers use."""
    finalizers = finalizers_of(body)
    known = [name for name in finalizers if name in former]
    own = [
        name
        for name in finalizers
        if name not in known and (identity.owns(name) or name in dedicated)
    ]
    taken_off = {identity.finalizer, *former, *dedicated}
    return Description(
        own=tuple(own),
        former=tuple(known),
        foreign=tuple(name for name in finalizers if name not in own and name not in known),
        is_being_deleted=is_being_deleted(body),
        is_stuck=is_being_deleted(body) and bool(finalizers) and taken_off.isdisjoint(finalizers),
    )
