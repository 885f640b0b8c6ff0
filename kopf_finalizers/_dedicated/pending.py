"""Changes that daemons and timers make by hand, until they are seen to have come through.

What a cycle of Kopf's (1.44 to 1.45) cannot send is kept for the next cycle. A daemon or a timer
has no cycles: what it cannot send it keeps for its next call, and after the last one it is lost. So
each change is noted when Kopf is about to send it, and the next cycle of the object sends what is
missing then.
"""

from collections.abc import Mapping
from typing import Any

import kopf

from .._bodies import uid_of
from .._changes import Change


class Pending:
    """The changes that may be lost, by the objects' uids and the finalizers' names."""

    def __init__(self) -> None:
        self._known = dict[str, dict[str, Change]]()

    def note(self, change: Change, body: Mapping[str, Any]) -> None:
        """It is about to be sent, or to turn out to be needless."""
        changes = self._known.setdefault(uid_of(body), {})
        changes.pop(change.name, None)  # the last one counts, and goes last
        changes[change.name] = change

    def take_up(self, patch: kopf.Patch, body: kopf.Body) -> None:
        """Have a cycle send what did not come through; from then on it is the cycle's."""
        if self._known:
            changes = self._known.pop(uid_of(body), {}).values()
            patch.fns.extend(change for change in changes if change.has_effect(body))

    def forget(self, body: kopf.Body) -> None:
        """The object has gone."""
        self._known.pop(uid_of(body), None)

    def reset(self) -> None:
        """The operator starts, or stops."""
        self._known.clear()
