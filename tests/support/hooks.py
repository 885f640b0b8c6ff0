"""What hooks are told of operators under test."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kopf_finalizers import instrumentation
from kopf_finalizers.instrumentation import CleanupDetails


@dataclass
class Told:
    """A hook that keeps what it is told."""

    details: list[CleanupDetails] = field(default_factory=list)

    def __call__(self, details: CleanupDetails, /) -> None:
        self.details.append(details)

    def of(self, finalizer: str, name: str | None = None) -> list[str]:
        """What happened to a finalizer, with the outcomes, in a word each."""
        return [
            str(one.event) + (f" {one.outcome}" if one.outcome else "")
            for one in self.details
            if one.finalizer == finalizer and name in (None, one.name)
        ]

    def last(self, event: str) -> CleanupDetails:
        return next(one for one in reversed(self.details) if one.event == event)


@contextlib.contextmanager
def telling(hook: Any) -> Iterator[Any]:
    """A hook, until the block ends: hooks belong to the process."""
    instrumentation.add_hook(hook)
    try:
        yield hook
    finally:
        instrumentation.remove_hook(hook)
