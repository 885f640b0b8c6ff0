"""What an operator tells about the objects that it holds in *Terminating*.

One call has a Prometheus server see them, and one adds any function that wants to know:

    from kopf_finalizers import instrumentation

    instrumentation.use_prometheus()

Nothing is told, counted or kept while there is no hook.
"""

from ._hooks import (
    CleanupDetails,
    CleanupEvent,
    CleanupHook,
    CleanupOutcome,
    add_hook,
    get_hooks,
    remove_hook,
)
from ._opentelemetry import OpenTelemetryHook, use_opentelemetry
from ._prometheus import PrometheusHook, use_prometheus

__all__ = [
    "CleanupDetails",
    "CleanupEvent",
    "CleanupHook",
    "CleanupOutcome",
    "OpenTelemetryHook",
    "PrometheusHook",
    "add_hook",
    "get_hooks",
    "remove_hook",
    "use_opentelemetry",
    "use_prometheus",
]
