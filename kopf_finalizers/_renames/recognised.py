"""A finalizer that Kopf recognises under its former names too."""

from collections.abc import Iterable
from typing import Any, Self


class RecognisedFinalizer(str):
    """A finalizer that equals its former names too."""

    __slots__ = ("names",)
    names: frozenset[str]

    def __new__(cls, name: str, names: Iterable[str]) -> Self:
        """Make one that is written as `name` and equals all of `names`."""
        self = super().__new__(cls, name)
        self.names = frozenset(names)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str.__str__(other) in self.names

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> str:
        # What Kopf puts into a patch is a plain string: it equals itself and nothing else.
        return str.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str.__str__(self),)
