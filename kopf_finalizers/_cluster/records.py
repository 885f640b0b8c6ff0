"""What Kopf has noted of its handlers on an object: how often each was tried, and when it is next.

Kopf (1.44 to 1.45) keeps one annotation for each handler that is not at its end, under the prefix
of the operator's progress storage. What is not of its form is none of Kopf's, whatever its prefix.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._records_of_others import progress_in
from .ages import read_time

KEPT_BESIDE = ("kopf-managed", "last-handled-configuration", "touch-dummy")
"""What a Kopf operator keeps under its prefix besides records (Kopf 1.44 to 1.45)."""


@dataclass(frozen=True)
class Record:
    """What is noted of one handler.

    Attributes:
        prefix: The prefix of the annotation: whose record it is.
        handler: The handler's id as the annotation has it: with dots in place of slashes.
        purpose: What it was called for, as `delete`; None where Kopf has not noted it.
        retries: How often it was tried.
        delayed: When it is tried next, if it is.
        started: When it was tried first.
        success: Whether it has ended well.
        failure: Whether Kopf has given it up.
        message: Its last error.
        subhandlers: The ids of its sub-handlers, with dots in place of slashes.
    """

    prefix: str
    handler: str
    purpose: str | None
    retries: int
    started: datetime | None
    delayed: datetime | None
    success: bool
    failure: bool
    message: str | None
    subhandlers: tuple[str, ...] = ()

    def state(self, now: datetime) -> str:
        """In one or two words."""
        if self.success:
            return "succeeded"
        if self.failure:
            return "given up"
        if self.delayed is None:
            return "under way" if self.retries else "not tried yet"
        return "is tried again" if self.delayed > now else "is due"


def records_of(metadata: Mapping[str, Any]) -> list[Record]:
    """All records on an object, those of one prefix together, sub-handlers after their parents."""
    found = list[Record]()
    for key, told in progress_in(metadata.get("annotations") or {}).items():
        prefix, _, handler = key.rpartition("/")
        found.append(_record(prefix, handler, told))
    return sorted(found, key=lambda one: (one.prefix, one.handler))


def prefixes_of(metadata: Mapping[str, Any]) -> set[str]:
    """The prefixes under which a Kopf operator has kept anything on an object."""
    annotations: Iterable[str] = metadata.get("annotations") or {}
    found = {key.rpartition("/")[0] for key in annotations if key.rpartition("/")[2] in KEPT_BESIDE}
    return (found | {one.prefix for one in records_of(metadata)}) - {""}


def _record(prefix: str, handler: str, told: Mapping[str, Any]) -> Record:
    return Record(
        prefix=prefix,
        handler=handler,
        purpose=told.get("purpose"),
        retries=told.get("retries") or 0,
        started=read_time(told.get("started")),
        delayed=read_time(told.get("delayed")),
        success=bool(told.get("success")),
        failure=bool(told.get("failure")),
        message=told.get("message"),
        subhandlers=tuple(key_of(str(one)) for one in told.get("subrefs") or ()),
    )


def key_of(handler_id: str) -> str:
    """A handler's id as annotations have it, up to 63 characters (Kopf 1.44 to 1.45)."""
    return handler_id.replace("/", ".").replace("<", "_").replace(">", "_")
