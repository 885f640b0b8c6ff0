"""The operator's own finalizer, as Kopf compares it: under former names too, or not at all."""

from collections.abc import Callable, Iterable
from typing import Any, Self


def _never() -> bool:
    return False


class RecognisedFinalizer(str):
    """A finalizer that equals its former names too.

    While it is hidden it equals nothing, not even itself: Kopf (1.44 to 1.45) finds it on no object
    then, and so leaves it where it is.
    """

    __slots__ = ("_is_hidden", "names")
    names: frozenset[str]
    _is_hidden: Callable[[], bool]

    def __new__(
        cls, name: str, names: Iterable[str], is_hidden: Callable[[], bool] = _never
    ) -> Self:
        """Make one that is written as `name` and equals all of `names`."""
        self = super().__new__(cls, name)
        self.names = frozenset(names)
        self._is_hidden = is_hidden
        return self

    @property
    def may_hide(self) -> bool:
        """Whether there is somebody who may hide it."""
        return self._is_hidden is not _never

    def __eq__(self, other: object) -> bool:
        found = isinstance(other, str) and str.__str__(other) in self.names
        return found and not self._is_hidden()

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> str:
        # What Kopf puts into a patch is a plain string: it equals itself and nothing else.
        return str.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str.__str__(self),)


def unhidden(finalizer: str) -> str:
    """The finalizer as it is compared where it is not hidden."""
    if isinstance(finalizer, RecognisedFinalizer):
        return RecognisedFinalizer(str.__str__(finalizer), finalizer.names)
    return finalizer


def names_of(finalizer: str) -> frozenset[str]:
    """All names that it equals."""
    if isinstance(finalizer, RecognisedFinalizer):
        return finalizer.names
    return frozenset({finalizer})
