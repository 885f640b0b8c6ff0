"""The hook for OpenTelemetry metrics; its API is imported when the hook is made."""

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .._errors import ConfigurationError
from ._held import Held, series_of
from ._hooks import CleanupDetails, CleanupEvent, add_hook

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


class OpenTelemetryHook:
    """A hook that reports metrics to OpenTelemetry, for `add_hook`.

    They are those of `PrometheusHook`, with dots in their names, and the attributes `finalizer`,
    `resource` and, where it has one, `outcome`: `kopf_finalizers.held_objects`,
    `kopf_finalizers.oldest_deletion_timestamp` (s), `kopf_finalizers.cleanup_attempts`,
    `kopf_finalizers.cleanups_overdue` and `kopf_finalizers.release_duration` (s).

    Args:
        meter_provider: Where they go; the global one of OpenTelemetry when left out.

    Raises:
        ConfigurationError: There is no `opentelemetry-api`.

    Example:
        >>> instrumentation.add_hook(instrumentation.OpenTelemetryHook())
    """

    def __init__(self, *, meter_provider: "MeterProvider | None" = None) -> None:
        api = _api()
        meter = api.get_meter("kopf_finalizers", meter_provider=meter_provider)
        self._held = held = Held()

        def observing(figure: Callable[[tuple[str, str]], float]) -> list[Any]:
            def observe(_: Any) -> Iterator[Any]:
                return (api.Observation(figure(one), _attributes(one)) for one in held.series())

            return [observe]

        meter.create_observable_gauge("kopf_finalizers.held_objects", observing(held.count))
        meter.create_observable_gauge(
            "kopf_finalizers.oldest_deletion_timestamp", observing(held.oldest), unit="s"
        )
        self._attempts = meter.create_counter("kopf_finalizers.cleanup_attempts")
        self._overdue = meter.create_counter("kopf_finalizers.cleanups_overdue")
        self._seconds = meter.create_histogram("kopf_finalizers.release_duration", unit="s")

    def __call__(self, details: CleanupDetails, /) -> None:
        """Report it."""
        self._held.note(details)
        attributes = _attributes(series_of(details))
        outcome = {"outcome": str(details.outcome)}
        if details.event is CleanupEvent.ATTEMPT:
            self._attempts.add(1, attributes | outcome)
        elif details.event is CleanupEvent.OVERDUE:
            self._overdue.add(1, attributes)
        elif details.event is CleanupEvent.GONE and details.outcome != "unseen":
            self._seconds.record(details.waited, attributes | outcome)


def use_opentelemetry(*, meter_provider: "MeterProvider | None" = None) -> OpenTelemetryHook:
    """Have OpenTelemetry see what the operators of this process hold.

    Args:
        meter_provider: As in `OpenTelemetryHook`.

    Raises:
        ConfigurationError: There is no `opentelemetry-api`: install
            `kopf-finalizers[opentelemetry]`, and an SDK of OpenTelemetry, which exports metrics.

    Example:
        >>> hook = instrumentation.use_opentelemetry()
        >>> hook in instrumentation.get_hooks()
        True
    """
    hook = OpenTelemetryHook(meter_provider=meter_provider)
    add_hook(hook)
    return hook


def _attributes(series: tuple[str, str]) -> dict[str, str]:
    finalizer, resource = series
    return {"finalizer": finalizer, "resource": resource}


def _api() -> Any:
    try:
        return importlib.import_module("opentelemetry.metrics")
    except ImportError as error:
        raise ConfigurationError(
            "The metrics for OpenTelemetry need opentelemetry-api, and it is not installed:"
            " pip install 'kopf-finalizers[opentelemetry]'. [missing-extra]"
        ) from error
