"""Kubernetes events about objects that hang: what `kubectl describe` says of them.

Kopf (since 1.44) posts nothing of what it logs, unless it is told to.
"""

import math
from dataclasses import dataclass
from datetime import UTC

import kopf

from .._errors import ConfigurationError
from .held import Deletion, Hold

THRESHOLD = 600.0
"""Seconds from the deletion, where nothing else is said."""

REPEATED = 1800.0
"""Seconds after which an event is posted again, while the object hangs."""


def threshold_of(events: object) -> float | None:
    """Seconds after which an object is posted about, from what `configure(events=)` was given.

    Raises:
        ConfigurationError: It is no positive number, nor True or False.
    """
    if events is False or events is None:
        return None
    if events is True:
        return THRESHOLD
    if not isinstance(events, int | float) or not 0 < events < math.inf:
        raise ConfigurationError(
            f"events={events!r} must be the seconds after which an event is posted about an object"
            f" that hangs, as in events={THRESHOLD:g}, or True, which is that; or False. [events]"
        )
    return float(events)


@dataclass(frozen=True)
class Poster:
    """Posts what an object being deleted waits for.

    The moments are counted from the deletion: an operator that is started again and again does not
    post more often than one that runs all the time.

    Args:
        after: Seconds from the deletion; None if nothing is posted of what is only waited for.
    """

    after: float | None = None

    def begin(self, deletion: Deletion) -> None:
        """Post when it is time, and again, as long as the object is there."""
        if self.after is not None:
            times = max(0, math.ceil((deletion.seconds() - self.after) / REPEATED))
            moment = self.after + times * REPEATED
            deletion.later("events", moment, lambda: self._post_pending(deletion))

    def post(self, deletion: Deletion, reason: str, message: str) -> None:
        """Post one event of the type Warning, unless the operator posts none at all."""
        kopf.event(deletion.reference, type="Warning", reason=reason, message=message)

    def _post_pending(self, deletion: Deletion) -> None:
        for hold in deletion.holds.values():
            if hold is not deletion.own or _waits_by_itself(hold, deletion):
                since = deletion.deleted_at.astimezone(UTC).isoformat(timespec="seconds")
                self.post(
                    deletion, "CleanupPending", f"{_what_for(hold)} since {since}.{_how(hold)}"
                )
        self.begin(deletion)


def _waits_by_itself(own: Hold, deletion: Deletion) -> bool:
    """Whether the operator's own finalizer does not only wait for the dedicated ones."""
    return len(deletion.holds) == 1 or not own.is_finished


def _what_for(hold: Hold) -> str:
    waits_for = f"the cleanup {hold.handlers}" if hold.handlers else "its handlers to end"
    return f"{hold.finalizer} waits for {waits_for}"


def _how(hold: Hold) -> str:
    return f" {hold.tried}" if hold.handlers else ""
