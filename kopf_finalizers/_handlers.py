"""What the decorators take: handlers, their filters, and the options of each kind.

Handlers are checked as Kopf's decorators (1.44 to 1.45) have them checked: they are called with
these keywords and more, which `**_` takes. Kopf does not publish its types of functions, so these
are made of those that it does publish. Two things are wider than there: `old` and `new` may be any
type, since with `field=` they are values of that field, and a handler may count on `param`.
"""

import datetime
import enum
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict, TypeVar

import kopf

from ._unset import LeftOut

# Functions. Those that are often lambdas have what may be anything first: pyright takes the first
# argument of a lambda for the first one here, whatever its name.


class EventFn(Protocol):
    """A handler of `on.event`."""

    def __call__(
        self,
        *,
        type: str,  # noqa: A002 - Kopf's name
        event: kopf.RawEvent,
        annotations: kopf.Annotations,
        labels: kopf.Labels,
        body: kopf.Body,
        meta: kopf.Meta,
        spec: kopf.Spec,
        status: kopf.Status,
        resource: kopf.Resource,
        uid: str,
        name: str,
        namespace: str | None,
        patch: kopf.Patch,
        logger: kopf.Logger,
        memo: Any,
        param: Any,
        **kwargs: Any,
    ) -> object: ...


class ChangingFn(Protocol):
    """A handler of `on.create`, `resume`, `update`, `delete` or `field`."""

    def __call__(
        self,
        *,
        reason: str,
        diff: kopf.Diff,
        old: Any,
        new: Any,
        annotations: kopf.Annotations,
        labels: kopf.Labels,
        body: kopf.Body,
        meta: kopf.Meta,
        spec: kopf.Spec,
        status: kopf.Status,
        resource: kopf.Resource,
        uid: str,
        name: str,
        namespace: str | None,
        patch: kopf.Patch,
        logger: kopf.Logger,
        memo: Any,
        param: Any,
        retry: int,
        started: datetime.datetime,
        runtime: datetime.timedelta,
        **kwargs: Any,
    ) -> object: ...


class DaemonFn(Protocol):
    """A daemon."""

    def __call__(
        self,
        *,
        stopped: kopf.DaemonStopped,
        annotations: kopf.Annotations,
        labels: kopf.Labels,
        body: kopf.Body,
        meta: kopf.Meta,
        spec: kopf.Spec,
        status: kopf.Status,
        resource: kopf.Resource,
        uid: str,
        name: str,
        namespace: str | None,
        patch: kopf.Patch,
        logger: kopf.Logger,
        memo: Any,
        param: Any,
        retry: int,
        started: datetime.datetime,
        runtime: datetime.timedelta,
        **kwargs: Any,
    ) -> object: ...


class TimerFn(Protocol):
    """A timer."""

    def __call__(
        self,
        *,
        annotations: kopf.Annotations,
        labels: kopf.Labels,
        body: kopf.Body,
        meta: kopf.Meta,
        spec: kopf.Spec,
        status: kopf.Status,
        resource: kopf.Resource,
        uid: str,
        name: str,
        namespace: str | None,
        patch: kopf.Patch,
        logger: kopf.Logger,
        memo: Any,
        param: Any,
        retry: int,
        started: datetime.datetime,
        runtime: datetime.timedelta,
        **kwargs: Any,
    ) -> object: ...


class DelayFn(Protocol):
    """How long a daemon or a timer waits before its first run, in seconds."""

    def __call__(
        self,
        *,
        memo: Any,
        param: Any = ...,
        annotations: kopf.Annotations,
        labels: kopf.Labels,
        body: kopf.Body,
        meta: kopf.Meta,
        spec: kopf.Spec,
        status: kopf.Status,
        resource: kopf.Resource,
        uid: str,
        name: str,
        namespace: str | None,
        patch: kopf.Patch,
        logger: kopf.Logger,
        **kwargs: Any,
    ) -> float: ...


class WhenFn(Protocol):
    """A filter of objects, as `when=` takes it."""

    def __call__(
        self,
        *,
        memo: Any,
        old: Any,
        new: Any,
        param: Any = ...,
        type: str,  # noqa: A002 - Kopf's name
        event: kopf.RawEvent,
        diff: kopf.Diff,
        annotations: kopf.Annotations,
        labels: kopf.Labels,
        body: kopf.Body,
        meta: kopf.Meta,
        spec: kopf.Spec,
        status: kopf.Status,
        resource: kopf.Resource,
        uid: str,
        name: str,
        namespace: str | None,
        patch: kopf.Patch,
        logger: kopf.Logger,
        **kwargs: Any,
    ) -> bool: ...


class ValueFn(Protocol):
    """A filter of one value: of a label, an annotation or a field."""

    def __call__(
        self,
        value: Any,
        *,
        memo: Any,
        param: Any = ...,
        type: str,  # noqa: A002 - Kopf's name
        annotations: kopf.Annotations,
        labels: kopf.Labels,
        body: kopf.Body,
        meta: kopf.Meta,
        spec: kopf.Spec,
        status: kopf.Status,
        resource: kopf.Resource,
        uid: str,
        name: str,
        namespace: str | None,
        patch: kopf.Patch,
        logger: kopf.Logger,
        **kwargs: Any,
    ) -> bool: ...


# Decorators: the function comes back as it was, with its own type

EventT = TypeVar("EventT", bound=EventFn)
ChangingT = TypeVar("ChangingT", bound=ChangingFn)
DaemonT = TypeVar("DaemonT", bound=DaemonFn)
TimerT = TypeVar("TimerT", bound=TimerFn)


class EventDecorator(Protocol):
    """What `on.event` returns."""

    def __call__(self, fn: EventT, /) -> EventT:
        """Register the function and return it."""


class ChangingDecorator(Protocol):
    """What `on.create`, `resume`, `update`, `delete` and `field` return."""

    def __call__(self, fn: ChangingT, /) -> ChangingT:
        """Register the function and return it."""


class DaemonDecorator(Protocol):
    """What `on.daemon` returns."""

    def __call__(self, fn: DaemonT, /) -> DaemonT:
        """Register the function and return it."""


class TimerDecorator(Protocol):
    """What `on.timer` returns."""

    def __call__(self, fn: TimerT, /) -> TimerT:
        """Register the function and return it."""


# Arguments

ResourceArg: TypeAlias = str | enum.Enum | Callable[[kopf.Resource], bool] | None
MetaFilter: TypeAlias = Mapping[str, str | enum.Enum | ValueFn] | None
# What a field of an object may be, or a question about it.
ValueFilter: TypeAlias = (
    str | float | enum.Enum | list[Any] | tuple[Any, ...] | Mapping[str, Any] | ValueFn | None
)
# Kopf stops a daemon or a timer through the operator's finalizer, so those have no None.
StoppingArg: TypeAlias = str | LeftOut
FinalizerArg: TypeAlias = StoppingArg | None


class SelectorOptions(TypedDict, total=False):
    """The resource, by keyword."""

    group: str | None
    version: str | None
    kind: str | None
    plural: str | None
    singular: str | None
    shortcut: str | None
    category: str | None


class EventOptions(SelectorOptions, total=False):
    """What `kopf.on.event` takes."""

    id: str | None
    param: Any
    labels: MetaFilter
    annotations: MetaFilter
    when: WhenFn | None
    field: str | tuple[str, ...] | list[str] | None
    value: ValueFilter
    registry: kopf.OperatorRegistry | None


class HandlerOptions(EventOptions, total=False):
    """What `kopf.on.create` takes, and with more the other handlers that Kopf tries again."""

    errors: kopf.ErrorsMode | None
    timeout: float | None
    retries: int | None
    backoff: float | None


class ResumeOptions(HandlerOptions, total=False):
    """What `kopf.on.resume` takes."""

    deleted: bool | None


class UpdateOptions(HandlerOptions, total=False):
    """What `kopf.on.update` and `kopf.on.field` take."""

    old: ValueFilter
    new: ValueFilter


class DeleteOptions(HandlerOptions, total=False):
    """What `kopf.on.delete` takes."""

    optional: bool | None


class DaemonOptions(HandlerOptions, total=False):
    """What `kopf.daemon` takes."""

    initial_delay: float | DelayFn | None
    cancellation_backoff: float | None
    cancellation_timeout: float | None
    cancellation_polling: float | None


class TimerOptions(HandlerOptions, total=False):
    """What `kopf.timer` takes."""

    interval: float | None
    initial_delay: float | DelayFn | None
    sharp: bool | None
    idle: float | None
