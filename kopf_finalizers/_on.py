"""The decorators: `kopf.on`, with a finalizer for each handler.

They take what Kopf's take (1.44 to 1.45), register the function with Kopf as it is, and return it
as it is. `finalizer=` is the one argument more: left out, the handler is guarded as Kopf guards it;
a purpose or a full name gives it a dedicated finalizer; `None` says that it needs none.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import kopf
from typing_extensions import Unpack

from ._dedicated.cleanups import Cleanups
from ._dedicated.dedicated import DedicatedFinalizers
from ._dedicated.filters import FILTERS, Filters
from ._dedicated.uses import OnTimeout, Use, check_deadline
from ._errors import ConfigurationError
from ._handler_ids import WITH_PROGRESS, can_be_kept, field_suffix, kopf_id, refusal_of
from ._handlers import (
    ChangingDecorator,
    DaemonDecorator,
    DaemonOptions,
    DeleteOptions,
    EventDecorator,
    EventOptions,
    FinalizerArg,
    HandlerOptions,
    ResourceArg,
    ResumeOptions,
    SelectorOptions,
    StoppingArg,
    TimerDecorator,
    TimerOptions,
    UpdateOptions,
)
from ._identity import OperatorIdentity
from ._resources import Selector
from ._unset import LEFT_OUT

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_SELECTOR_OPTIONS = frozenset(SelectorOptions.__annotations__)
_STOPPED_BY_FINALIZER = frozenset({"daemon", "timer"})


class On:
    """The decorators of one operator, as `Finalizers.on`; see each of them."""

    def __init__(
        self,
        identity: OperatorIdentity,
        dedicated: DedicatedFinalizers,
        cleanups: Cleanups,
        *,
        watches_only: bool,
        storages: bool,
        registry: kopf.OperatorRegistry | None,
        guarded: list[Use],
        declared: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._declared = declared
        self._dedicated = dedicated
        self._cleanups = cleanups
        self._watches_only = watches_only
        # Whether progress surely goes to annotations; of a storage that is the operator's own it
        # is not known yet.
        self._in_annotations = storages
        self._registry = registry
        self._guarded = guarded

    def create(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: FinalizerArg = LEFT_OUT,
        **options: Unpack[HandlerOptions],
    ) -> ChangingDecorator:
        """`kopf.on.create`, with a finalizer.

        With `finalizer="purpose"`, the dedicated finalizer is on the object before the handler
        runs. An `on.delete` with the same `finalizer=` makes it wait for that cleanup; without one
        it is released as soon as the object is being deleted.

        Raises:
            ConfigurationError: The finalizer is not one that this operator may use, or the operator
                said that it only watches.

        Example:
            >>> @finalizers.on.create("mygroup", "v1", "myresources", finalizer="backups")
            ... def create_fn(**_): ...
        """
        return self._decorator("create", (arg1, arg2, arg3), finalizer, options)

    def resume(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: FinalizerArg = LEFT_OUT,
        **options: Unpack[ResumeOptions],
    ) -> ChangingDecorator:
        """`kopf.on.resume`, with a finalizer, as in `create`.

        With `deleted=True` the handler is also called for objects that are being deleted; to those
        Kubernetes adds no finalizer.

        Raises:
            ConfigurationError: As in `create`.

        Example:
            >>> @finalizers.on.resume("mygroup", "v1", "myresources", finalizer="backups")
            ... def resume_fn(**_): ...
        """
        return self._decorator("resume", (arg1, arg2, arg3), finalizer, options)

    def update(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: FinalizerArg = LEFT_OUT,
        **options: Unpack[UpdateOptions],
    ) -> ChangingDecorator:
        """`kopf.on.update`, with a finalizer, as in `create`.

        The finalizer is on every object that matches the filters but for `old=` and `new=`: a
        change is known only when it happens.

        Raises:
            ConfigurationError: As in `create`.

        Example:
            >>> @finalizers.on.update("mygroup", "v1", "myresources", finalizer="backups")
            ... def update_fn(diff, **_): ...
        """
        return self._decorator("update", (arg1, arg2, arg3), finalizer, options)

    def delete(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: FinalizerArg = LEFT_OUT,
        leaves: str | None = None,
        release_after: float | None = None,
        on_timeout: OnTimeout | None = None,
        **options: Unpack[DeleteOptions],
    ) -> ChangingDecorator:
        """`kopf.on.delete`, with a finalizer: a cleanup.

        Left out, the operator's own finalizer guards it, as in Kopf. With `finalizer="purpose"` the
        dedicated finalizer is on the object before any of Kopf's state-dependent handlers runs, is
        there while the cleanup is tried again, and goes when it has succeeded. With
        `finalizer=None` the handler never blocks a deletion (`optional=True`), and may be missed.

        Where Kopf gives a cleanup up for good (`kopf.PermanentError`, `retries` or `timeout`
        spent), its finalizer goes too, with a warning in the log: no object is stuck on it.

        It is assumed that a cleanup may be called again after it has succeeded: an operator that is
        killed before the release is stored calls it again, as plain Kopf does.

        `leaves=` says in a few words what stays behind if the finalizer is released by hand, for
        whoever has to decide that. `Finalizers.inventory` and `kopf-finalizers document` show it,
        and what the cleanup is for: the first paragraph of the function's docstring.

        `release_after=` gives a cleanup with a dedicated finalizer a time, in seconds from the
        *deletion* (Kopf's `timeout=` counts from its first call): also while the operator is down.
        When it has passed, and the cleanup has not succeeded, that is logged, told to the hooks of
        `kopf_finalizers.instrumentation`, and posted as an event of the object. With
        `on_timeout="release"` the finalizer goes then, and the cleanup is called no more: what it
        cleans up is left behind. With `"keep"` it stays, and the cleanup is tried again as before.
        A call that is under way is not interrupted.

        Raises:
            ConfigurationError: As in `create`; also when another cleanup waits with this finalizer
                on this resource, `optional=` contradicts `finalizer=`, or `release_after=` has no
                dedicated finalizer, no `on_timeout=`, or is no positive number.

        Example:
            >>> @finalizers.on.delete("mygroup", "v1", "myresources", finalizer="backups")
            ... def drop_backups(**_):
            ...     '''Drops the backups of the last 30 days.'''
        """
        optional = options.get("optional")
        if finalizer is None:
            if optional is False:
                raise ConfigurationError(
                    "on.delete(finalizer=None) never blocks a deletion, and optional=False asks for"
                    " the contrary: leave one of the two out. [optional]"
                )
            options["optional"] = True
        elif isinstance(finalizer, str) and optional:
            raise ConfigurationError(
                f'on.delete(finalizer="{finalizer}") makes the object wait for this cleanup, and'
                " optional=True asks for the contrary: leave one of the two out. [optional]"
            )
        check_deadline(finalizer, release_after, on_timeout)
        return self._decorator(
            "delete",
            (arg1, arg2, arg3),
            finalizer,
            options,
            leaves=leaves,
            release_after=release_after,
            on_timeout=on_timeout,
        )

    def field(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: FinalizerArg = LEFT_OUT,
        **options: Unpack[UpdateOptions],
    ) -> ChangingDecorator:
        """`kopf.on.field`, with a finalizer, as in `update`.

        The finalizer is on every object that has the field.

        Raises:
            ConfigurationError: As in `create`.
            TypeError: From Kopf: there is no `field=`.

        Example:
            >>> @finalizers.on.field(
            ...     "mygroup", "v1", "myresources", field="spec.size", finalizer="backups"
            ... )
            ... def resized(old, new, **_): ...
        """
        return self._decorator("field", (arg1, arg2, arg3), finalizer, options)

    def event(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: FinalizerArg = LEFT_OUT,
        **options: Unpack[EventOptions],
    ) -> EventDecorator:
        """`kopf.on.event`, with a finalizer.

        With `finalizer="purpose"` the dedicated finalizer is put on every object that matches, and
        is released as in `create`. With `finalizer=None`, or left out, the handler needs none.

        Raises:
            ConfigurationError: As in `create`.

        Example:
            >>> @finalizers.on.event("mygroup", "v1", "myresources", finalizer=None)
            ... def watch_fn(event, **_): ...
        """
        return self._decorator("event", (arg1, arg2, arg3), finalizer, options)

    def daemon(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: StoppingArg = LEFT_OUT,
        **options: Unpack[DaemonOptions],
    ) -> DaemonDecorator:
        """`kopf.daemon`, with a finalizer.

        Kopf stops a daemon through the operator's own finalizer, which is always there. With
        `finalizer="purpose"` the dedicated one goes on in the cycle that starts the daemon, and is
        released as in `create`.

        Raises:
            ConfigurationError: As in `create`; also with `finalizer=None`.

        Example:
            >>> @finalizers.on.daemon("mygroup", "v1", "myresources")
            ... async def daemon_fn(stopped, **_): ...
        """
        return self._decorator("daemon", (arg1, arg2, arg3), finalizer, options)

    def timer(
        self,
        arg1: ResourceArg = None,
        arg2: ResourceArg = None,
        arg3: ResourceArg = None,
        /,
        *,
        finalizer: StoppingArg = LEFT_OUT,
        **options: Unpack[TimerOptions],
    ) -> TimerDecorator:
        """`kopf.timer`, with a finalizer, as in `daemon`.

        Raises:
            ConfigurationError: As in `create`; also with `finalizer=None`.

        Example:
            >>> @finalizers.on.timer("mygroup", "v1", "myresources", interval=60)
            ... def timer_fn(**_): ...
        """
        return self._decorator("timer", (arg1, arg2, arg3), finalizer, options)

    def _decorator(
        self,
        kind: str,
        args: tuple[ResourceArg, ResourceArg, ResourceArg],
        finalizer: FinalizerArg,
        given: Mapping[str, Any],
        **cleanup: Any,
    ) -> Callable[[HandlerT], HandlerT]:
        options = dict(given)
        if options.get("registry") is None:
            options["registry"] = self._registry or kopf.get_default_registry()
        self._check(kind, finalizer, options)
        selector = Selector(
            args=args,
            options=tuple((key, options[key]) for key in options if key in _SELECTOR_OPTIONS),
        )
        dedicated = self._identity.finalizer_for(finalizer) if isinstance(finalizer, str) else None

        def decorate(fn: HandlerT, /) -> HandlerT:
            # Named here as Kopf would name it, since a handler's progress is known by its id.
            given_id = options.get("id") or kopf_id(fn)
            handler_id = "/".join([str(given_id), *field_suffix(options.get("field"))])
            if self._in_annotations and kind in WITH_PROGRESS and not can_be_kept(handler_id):
                raise ConfigurationError(refusal_of(handler_id, str(given_id)))
            own = Use(
                finalizer=self._identity.finalizer,
                kind=kind,
                fn=fn,
                selector=selector,
                registry=options["registry"],
                handler_id=handler_id,
                param=options.get("param"),
                **cleanup,
            )
            if kind == "delete":
                self._cleanups.declare(replace(own, finalizer=dedicated or ""))
            registered = self._registering(kind, args, options | {"id": given_id})(fn)
            if _needs_kopf(kind, options):
                self._guarded.append(own)
            if dedicated is not None:
                filters = Filters(kind, {key: options[key] for key in options if key in FILTERS})
                self._dedicated.declare(replace(own, finalizer=dedicated, filters=filters))
            self._declared()
            return registered

        return decorate

    def _registering(
        self, kind: str, args: tuple[ResourceArg, ...], options: Mapping[str, Any]
    ) -> Callable[[HandlerT], HandlerT]:
        decorator: Callable[[HandlerT], HandlerT] = getattr(kopf.on, kind)(*args, **options)
        return decorator

    def _check(self, kind: str, finalizer: FinalizerArg, options: Mapping[str, Any]) -> None:
        if finalizer is not LEFT_OUT and finalizer is not None and not isinstance(finalizer, str):
            raise ConfigurationError(
                f"on.{kind}(finalizer={finalizer!r}): a finalizer is a purpose, as in"
                ' "backups", a full name, as in "mycompany.com/my-finalizer", or None.'
                " [finalizer-argument]"
            )
        if kind in _STOPPED_BY_FINALIZER and finalizer is None:
            raise ConfigurationError(
                f"on.{kind}(finalizer=None) cannot work: Kopf stops a {kind} through the operator's"
                " finalizer when the object is deleted. Leave finalizer= out. [needs-finalizer]"
            )
        needed = _needs_kopf(kind, options) or isinstance(finalizer, str)
        if self._watches_only and needed:
            raise ConfigurationError(
                f"{self._identity.finalizer} was configured with finalizer=None, as an operator"
                f" that only watches, but on.{kind} needs a finalizer here. Leave finalizer= out of"
                " configure(), or"
                + (
                    f" leave the {kind} out."
                    if kind in _STOPPED_BY_FINALIZER
                    else " give this handler finalizer=None, so that it never blocks a deletion."
                )
                + " [watches-only]"
            )


def _needs_kopf(kind: str, options: Mapping[str, Any]) -> bool:
    """Whether Kopf puts the operator's own finalizer on objects for such a handler."""
    return kind in _STOPPED_BY_FINALIZER or (kind == "delete" and not options.get("optional"))


if not TYPE_CHECKING:  # or every name would be there to a type checker

    def __getattr__(name: str) -> Any:
        """Tell whoever looks for a decorator here, as in `kopf.on`, where it is."""
        told = f"module {__name__!r} has no attribute {name!r}"
        if name in vars(On):
            told += (
                ": the decorators belong to one operator. Write finalizers ="
                ' kopf_finalizers.configure(domain="mycompany.com", operator="db-operator"), and'
                f" then @finalizers.on.{name}(...)."
            )
        raise AttributeError(told)
