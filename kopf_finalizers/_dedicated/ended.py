"""Cleanups that have ended, as this process remembers: whatever becomes of their records."""

from collections.abc import Mapping
from typing import Any, cast

import kopf

from .cycle import is_finished


def pure(record: kopf.ProgressRecord) -> kopf.ProgressRecord:
    """A record as it comes from where it is stored: Kopf compares, and stores what has changed."""
    found: Any = {key: value for key, value in record.items() if value is not None}
    return cast("kopf.ProgressRecord", found)


class Remembering(kopf.MultiProgressStorage):
    """An operator's progress storage, with the cleanups that have ended whatever it has of them."""

    def __init__(self, storage: kopf.ProgressStorage, ended: Mapping[str, kopf.ProgressRecord]):
        super().__init__([storage])
        self._ended = ended

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come."""
        return remembered(super().fetch(key=key, body=body), self._ended.get(key))


def remembered(
    record: kopf.ProgressRecord | None, ended: kopf.ProgressRecord | None
) -> kopf.ProgressRecord | None:
    """How far a handler has come that is known to have ended, or is not."""
    return record if ended is None or is_finished(record) else ended
