"""Which objects each finalizer holds, as hooks that show figures keep it."""

import threading

from ._hooks import CleanupDetails, CleanupEvent


class Held:
    """The deletions that each finalizer of a resource holds.

    It is written in the operators' event loops and read from wherever figures are asked for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deletions = dict[tuple[str, str], dict[tuple[str, str], float]]()

    def note(self, details: CleanupDetails) -> bool:
        """Keep what is held, and tell whether this pair of finalizer and resource is new."""
        series, one = series_of(details), (details.operator, details.uid)
        with self._lock:
            is_new = series not in self._deletions
            held = self._deletions.setdefault(series, {})
            if details.event is CleanupEvent.HELD:
                held[one] = details.deleted_at.timestamp()
            elif details.event is CleanupEvent.GONE:
                held.pop(one, None)
        return is_new

    def series(self) -> list[tuple[str, str]]:
        """The pairs of finalizer and resource that were told of so far."""
        with self._lock:
            return list(self._deletions)

    def count(self, series: tuple[str, str]) -> int:
        """How many objects a finalizer holds."""
        return len(self._deletions[series])

    def oldest(self, series: tuple[str, str]) -> float:
        """When the oldest of these deletions began, in seconds since 1970; 0 if there is none."""
        with self._lock:
            return min(self._deletions[series].values(), default=0.0)


def series_of(details: CleanupDetails) -> tuple[str, str]:
    """What figures are told apart by: never by the object, of which there are too many."""
    return details.finalizer, details.resource
