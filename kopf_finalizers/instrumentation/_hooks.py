"""Hooks: what is told of a cleanup, and to whom."""

import enum
import inspect
import logging
import weakref
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from .._errors import ConfigurationError

logger = logging.getLogger("kopf_finalizers")


class CleanupEvent(enum.StrEnum):
    """What has happened to a finalizer on an object that is being deleted.

    For each finalizer of an object `HELD` comes first and `GONE` last, both once, and the others in
    between. An operator that starts anew begins anew: objects that were being deleted before get
    their `HELD` then.

    Example:
        >>> CleanupEvent.HELD == "held"
        True
    """

    HELD = "held"
    """The object is being deleted, and waits for this finalizer."""

    ATTEMPT = "attempt"
    """A cleanup was called, and has ended, well or not."""

    OVERDUE = "overdue"
    """The time of `release_after=` has passed, and the cleanup has not succeeded."""

    GONE = "gone"
    """The finalizer is no longer on the object, or the object no longer there."""


class CleanupOutcome(enum.StrEnum):
    """How an attempt ended (the first three), or why a finalizer went (all but the second).

    Example:
        >>> CleanupOutcome.GIVEN_UP.value
        'given_up'
    """

    SUCCEEDED = "succeeded"
    """All that the finalizer has waited for is done."""

    FAILED = "failed"
    """An attempt that will be followed by another."""

    GIVEN_UP = "given_up"
    """Kopf calls the cleanup no more: `kopf.PermanentError`, its `retries` or its `timeout`."""

    SKIPPED = "skipped"
    """Somebody has asked for that, by the annotation of `skip_cleanup=`."""

    OVERDUE = "overdue"
    """Released after the time of `release_after=`, its cleanup not done."""

    NO_CLEANUP = "no_cleanup"
    """It had no cleanup to wait for here, or its daemons and timers have stopped."""

    REMOVED = "removed"
    """The operator has not done that: somebody took it off by hand, say."""

    UNSEEN = "unseen"
    """The operator stopped watching, or the object went while the watch was interrupted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanupDetails:
    """What has happened to one finalizer of one object, which is being deleted.

    Attributes:
        event: What it is.
        operator: The operator's own finalizer, by which one operator of a process is known.
        finalizer: The finalizer as it stands on the object.
        resource: The object's resource in kubectl's notation: `databases.v1.mycompany.com`.
        namespace: The object's namespace; None for objects of the cluster.
        name: The object's name.
        uid: The object's uid: another object under the same name has another one.
        deleted_at: When the deletion began: its `deletionTimestamp`, in UTC. Kubernetes adds the
            grace period of the deletion to that, which custom resources do not have.
        at: When it happened, in UTC, by the operator's clock.
        outcome: How an attempt ended, or why the finalizer went.
        handler: Of an attempt, the id of the handler, as in Kopf's logs.
        attempts: How often that handler was called by then; of other events, the highest count of
            the finalizer's handlers.
        error: The last error of its cleanups, if there was any.

    Example:
        >>> from datetime import UTC, datetime
        >>> details = CleanupDetails(
        ...     event=CleanupEvent.HELD,
        ...     operator="mycompany.com/db-operator",
        ...     finalizer="mycompany.com/db-operator.backups",
        ...     resource="databases.v1.mycompany.com",
        ...     namespace="default",
        ...     name="one",
        ...     uid="b0c5f3c4",
        ...     deleted_at=datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC),
        ...     at=datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC),
        ... )
        >>> details.waited
        5.0
    """

    event: CleanupEvent
    operator: str
    finalizer: str
    resource: str
    namespace: str | None
    name: str
    uid: str
    deleted_at: datetime
    at: datetime
    outcome: CleanupOutcome | None = None
    handler: str | None = None
    attempts: int = 0
    error: str | None = None

    @property
    def waited(self) -> float:
        """Seconds since the deletion began; never less than none, whatever the clocks say."""
        return max(0.0, (self.at - self.deleted_at).total_seconds())


class CleanupHook(Protocol):
    """A function, or any object that can be called: see `add_hook`.

    Example:
        >>> def hook(details: CleanupDetails) -> None:
        ...     print(details.finalizer, details.event)
    """

    def __call__(self, details: CleanupDetails, /) -> None:
        """Take note; it is called in the operator's event loop, so it must not wait."""


class Listener(Protocol):
    """Whoever has something to tell once there is a hook."""

    def begin(self) -> None:
        """Begin to look at objects."""


_hooks: tuple[CleanupHook, ...] = ()
_failed = list[CleanupHook]()
_listeners = weakref.WeakSet[Listener]()


def add_hook(hook: CleanupHook) -> None:
    """Have a function called with `CleanupDetails` of each `CleanupEvent`, for all operators here.

    A hook is called in the event loop of the operator: it must not wait for anything. One that
    raises does no harm: the first error is logged, and it is called again the next time. Added
    before the operator watches its objects, in an `on.startup` handler at the latest, it hears of
    all of them. Added again, it is still called once.

    Raises:
        ConfigurationError: It cannot be called, or is asynchronous.

    Example:
        >>> def hook(details):
        ...     if details.event == "gone":
        ...         print(details.name, details.outcome)
        >>> instrumentation.add_hook(hook)
    """
    global _hooks
    if not callable(hook) or _is_async(hook):
        raise ConfigurationError(
            f"The hook {hook!r} must be a plain function with one argument, as in"
            " def hook(details): ... It is called in the operator's event loop, which does not wait"
            " for it: one that has to wait starts a task of its own. [hook-form]"
        )
    if hook not in _hooks:
        _hooks = (*_hooks, hook)
    for listener in list(_listeners):
        listener.begin()


def remove_hook(hook: CleanupHook) -> None:
    """Call a hook no more; one that was not added makes no difference.

    Example:
        >>> instrumentation.remove_hook(print)
    """
    global _hooks
    _hooks = tuple(one for one in _hooks if one != hook)
    _failed[:] = [one for one in _failed if one != hook]


def get_hooks() -> tuple[CleanupHook, ...]:
    """The hooks, in the order in which they are called.

    Example:
        >>> instrumentation.get_hooks()
        ()
    """
    return _hooks


def tell(details: CleanupDetails) -> None:
    """Call all hooks; what they raise is logged, once for each."""
    for hook in _hooks:
        try:
            hook(details)
        except Exception:
            if hook not in _failed:
                _failed.append(hook)
                logger.exception(
                    "The hook %r of kopf_finalizers.instrumentation has failed at %r. The operator"
                    " goes on, and calls it again; further errors of it are not logged."
                    " [hook-failed]",
                    hook,
                    details,
                )


def listen(listener: Listener) -> None:
    """Have a listener begin as soon as there is a hook; safe to call again."""
    _listeners.add(listener)
    if _hooks:
        listener.begin()


def _is_async(hook: Any) -> bool:
    return any(inspect.iscoroutinefunction(one) for one in (hook, type(hook).__call__))
