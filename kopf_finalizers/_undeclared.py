"""Finalizers of this operator that nobody takes off: objects hang, since their handler is gone."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ._bodies import finalizers_of, is_being_deleted, name_of
from ._identity import OperatorIdentity
from ._settings import logger


class Undeclared:
    """Warns of a finalizer with a name of this operator on an object being deleted.

    Args:
        identity: Whose names they are.
        known: Those that the operator knows: its own, its handlers', and declared ones.
    """

    def __init__(self, identity: OperatorIdentity, known: Callable[[], Iterable[str]]) -> None:
        self._identity = identity
        self._known = known
        # Handlers of this process have put these on or taken them off.
        self._by_hand = set[str]()
        self._warned = set[tuple[str, str]]()

    def changed(self, names: Iterable[str]) -> None:
        """A handler changes a finalizer by itself: so it looks after it."""
        self._by_hand.update(names)

    def look_at(self, body: Mapping[str, Any]) -> None:
        """Warn of what is unknown, once for each kind of object and each finalizer."""
        if not is_being_deleted(body):
            return
        unknown = set(finalizers_of(body)).difference(self._by_hand, self._known())
        for name in sorted(filter(self._identity.owns, unknown)):
            kind = str(body.get("kind"))
            if (kind, name) in self._warned:
                continue
            self._warned.add((kind, name))
            logger.warning(
                "No handler declares %s, which is on %s %s, and the object is being deleted: it"
                " hangs until somebody takes that off. [undeclared]",
                name,
                kind,
                name_of(body),
            )
