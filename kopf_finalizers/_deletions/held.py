"""What is known of one object being deleted: which finalizers hold it, how far each cleanup is."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import kopf

from .._bodies import metadata_of
from ..instrumentation import CleanupOutcome


class Cleanup(Protocol):
    """A cleanup with a dedicated finalizer, as its handler has declared it."""

    @property
    def finalizer(self) -> str:
        """The finalizer, under the name that it has now."""

    @property
    def handler_id(self) -> str:
        """Its id, as Kopf knows it."""

    @property
    def leaves(self) -> str | None:
        """What stays behind without it."""

    @property
    def release_after(self) -> float | None:
        """Seconds from the deletion, after which it is overdue."""

    @property
    def is_released(self) -> bool:
        """Whether its finalizer goes when it is overdue."""


@dataclass
class Progress:
    """How far one cleanup has come."""

    attempts: int = 0
    outcome: CleanupOutcome | None = None

    @property
    def is_finished(self) -> bool:
        """Whether Kopf calls it no more."""
        return self.outcome in (CleanupOutcome.SUCCEEDED, CleanupOutcome.GIVEN_UP)

    def note(self, record: kopf.ProgressRecord) -> None:
        """Take over what is stored of it."""
        self.attempts = record.get("retries") or 0
        if record.get("success"):
            self.outcome = CleanupOutcome.SUCCEEDED
        elif record.get("failure"):
            self.outcome = CleanupOutcome.GIVEN_UP
        else:
            self.outcome = CleanupOutcome.FAILED if self.attempts else None


def error_of(record: kopf.ProgressRecord) -> str | None:
    """The error of an attempt: Kopf stores "None" for one without a message."""
    message = record.get("message")
    return None if message in (None, "", "None") else message


@dataclass
class Hold:
    """One finalizer of the operator on the object."""

    finalizer: str
    cleanups: tuple[Cleanup, ...] = ()
    """Those that it is for; of the operator's own there are none, since it is for all others."""

    progress: dict[str, Progress] = field(default_factory=dict)
    """By the handlers' ids, of those that have been called."""

    error: str | None = None
    """The last one of its cleanups."""

    is_sent: bool = False
    """The operator itself has taken it off."""

    called_off: CleanupOutcome | None = None
    """Why it goes, where that is not because its cleanups are done."""

    @property
    def is_finished(self) -> bool:
        """Whether all its cleanups have succeeded, or are given up."""
        called = {one.handler_id for one in self.cleanups} <= self.progress.keys()
        return called and all(one.is_finished for one in self.progress.values())

    @property
    def attempts(self) -> int:
        """The highest count of its handlers."""
        return max((one.attempts for one in self.progress.values()), default=0)

    @property
    def leaves(self) -> str:
        """What stays behind without its cleanups, as a sentence, if somebody has said so."""
        found = [one.leaves for one in self.cleanups if one.leaves]
        return f" Left behind: {'; '.join(found)}." if found else ""

    @property
    def handlers(self) -> str:
        """Its cleanups, in a sentence."""
        ids = dict.fromkeys([one.handler_id for one in self.cleanups] + list(self.progress))
        return " and ".join(ids)

    @property
    def tried(self) -> str:
        """How its cleanups went so far, as a sentence."""
        if not self.attempts:
            return "It was not tried."
        times = "once" if self.attempts == 1 else f"{self.attempts} times"
        return f"It was tried {times}; the last error: {self.error or 'none'}."

    def note(self, key: str, record: kopf.ProgressRecord) -> None:
        """Take over what is stored of one of its handlers."""
        self.progress.setdefault(key, Progress()).note(record)
        self.error = error_of(record) or self.error

    def outcome(self) -> CleanupOutcome:
        """Why it went, once it is seen to be gone."""
        outcomes = {one.outcome for one in self.progress.values()}
        if not self.is_sent:
            return CleanupOutcome.REMOVED
        if self.called_off is not None:
            return self.called_off
        if CleanupOutcome.GIVEN_UP in outcomes:
            return CleanupOutcome.GIVEN_UP
        if outcomes - {CleanupOutcome.SUCCEEDED}:
            return CleanupOutcome.REMOVED  # Kopf's own was, and then Kopf calls no cleanup
        return CleanupOutcome.SUCCEEDED if outcomes else CleanupOutcome.NO_CLEANUP


@dataclass
class Deletion:
    """One object being deleted, and what of this operator holds it."""

    reference: kopf.Body
    resource: kopf.Resource
    logger: kopf.Logger
    deleted_at: datetime
    cleanups: tuple[Cleanup, ...]
    """All cleanups with a dedicated finalizer that its resource has."""

    others: frozenset[str]
    """The ids of the operator's other cleanups."""

    holds: dict[str, Hold]
    own: Hold | None
    """The operator's own finalizer."""

    settings: kopf.OperatorSettings
    """With which the API server is asked for it."""

    attempts: dict[str, int] = field(default_factory=dict)
    """How often each handler had been called when Kopf asked last, sub-handlers too."""

    called_off: dict[str, CleanupOutcome] = field(default_factory=dict)
    """Handlers that are not to be called, and why."""

    annotation: str | None = None
    """What it said when the log was last told of unknown purposes in it."""

    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)

    silence: asyncio.TimerHandle | None = None
    questions: int = 0
    """How often the API server was asked for it since it was heard of."""

    question: "asyncio.Task[None] | None" = None

    @property
    def uid(self) -> str:
        """Which object it is, whatever comes later under its name."""
        return str(self.reference["metadata"]["uid"])

    @property
    def namespace(self) -> str | None:
        """The namespace of the object, if it has one."""
        found: str | None = self.reference["metadata"].get("namespace")
        return found

    @functools.cached_property
    def ids(self) -> set[str]:
        """The ids of all cleanups that the object may have, without their sub-handlers."""
        return {one.handler_id for one in self.cleanups} | self.others

    def hold_of(self, key: str) -> Hold | None:
        """The one that waits for a handler, or for the handler that a sub-handler belongs to."""
        for hold in self.holds.values():
            for one in hold.cleanups:
                if key == one.handler_id or key.startswith(f"{one.handler_id}/"):
                    return hold
        return self.own

    def seconds(self) -> float:
        """For how long it is being deleted."""
        return (datetime.now(UTC) - self.deleted_at).total_seconds()

    def moment(self, seconds: float) -> str:
        """So many seconds after the deletion, as Kopf writes it into progress records."""
        moment = self.deleted_at + timedelta(seconds=seconds)
        return moment.isoformat(timespec="microseconds")

    def later(self, what: str, seconds: float, fn: Callable[[], None]) -> None:
        """Have something done so many seconds after the deletion, without an event."""
        delay = max(0.0, seconds - self.seconds())
        self.timers[what] = asyncio.get_running_loop().call_later(delay, fn)

    def in_silence(self, seconds: float, fn: Callable[[], None]) -> None:
        """Have something done so many seconds from now, and nothing else that was to be done so."""
        if self.silence is not None:
            self.silence.cancel()
        self.silence = asyncio.get_running_loop().call_later(seconds, fn)

    def stop(self) -> None:
        """Whatever was to be done later is not done."""
        for timer in (*self.timers.values(), self.silence, self.question):
            if timer is not None:
                timer.cancel()


def reference_to(body: Mapping[str, Any]) -> kopf.Body:
    """As much of an object as an event is posted about."""
    metadata = metadata_of(body)
    kept = {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}
    raw: Any = {"apiVersion": body.get("apiVersion"), "kind": body.get("kind"), "metadata": kept}
    return kopf.Body(raw)


def deletion_time(body: Mapping[str, Any]) -> datetime:
    """When the deletion of an object began."""
    return datetime.fromisoformat(metadata_of(body)["deletionTimestamp"]).astimezone(UTC)


def shown(resource: kopf.Resource) -> str:
    """A resource in kubectl's notation."""
    return ".".join(filter(None, [resource.plural, resource.version, resource.group]))
