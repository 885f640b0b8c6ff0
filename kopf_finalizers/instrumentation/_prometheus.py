"""The hook for Prometheus; its client is imported when the hook is made."""

import importlib
import weakref
from typing import TYPE_CHECKING, Any

from .._errors import ConfigurationError
from ._held import Held, series_of
from ._hooks import CleanupDetails, CleanupEvent, add_hook

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LABELS = ("finalizer", "resource")

BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 86400)
"""Seconds from a deletion to a release: what is quick, what a person notices, and up to a day."""


class PrometheusHook:
    """A hook that keeps series for Prometheus, for `add_hook`.

    All have the labels `finalizer` and `resource` (`databases.v1.mycompany.com`), and none names an
    object. In a process with several operators they show all of them:

    * `kopf_finalizers_held_objects`, a gauge: objects being deleted that carry the finalizer now.
    * `kopf_finalizers_oldest_deletion_timestamp_seconds`, a gauge: when the oldest of these
      deletions began, in seconds since 1970; 0 if nothing is held.
    * `kopf_finalizers_cleanup_attempts_total`, a counter: calls of cleanups that have ended, by
      `outcome`: `succeeded`, `failed` (and will be tried again), `given_up`.
    * `kopf_finalizers_cleanups_overdue_total`, a counter: cleanups that were not done within their
      `release_after=`, whether they are released then or kept.
    * `kopf_finalizers_release_seconds`, a histogram: seconds from the deletion until the finalizer
      had gone, by `outcome`, as `CleanupOutcome` has them, but for `unseen`.

    It is assumed that one process counts: `prometheus_client`'s mode for several is not for Kopf,
    whose operators are single processes.

    Args:
        registry: A `prometheus_client.CollectorRegistry`; the client's own one when left out.

    Raises:
        ConfigurationError: There is no `prometheus-client`.
        ValueError: From the client: the registry has these series already.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> registry = CollectorRegistry()
        >>> instrumentation.add_hook(instrumentation.PrometheusHook(registry=registry))
        >>> instrumentation.get_hooks()
        (<kopf_finalizers.instrumentation...PrometheusHook object at ...>,)
    """

    def __init__(self, *, registry: "CollectorRegistry | None" = None) -> None:
        client = _client()
        options: dict[str, Any] = {"registry": client.REGISTRY if registry is None else registry}
        self._held = Held()
        self._objects = client.Gauge(
            "kopf_finalizers_held_objects",
            "Objects being deleted that carry the finalizer now.",
            LABELS,
            **options,
        )
        self._oldest = client.Gauge(
            "kopf_finalizers_oldest_deletion_timestamp_seconds",
            "When the oldest deletion that the finalizer holds began; 0 if it holds none.",
            LABELS,
            **options,
        )
        self._attempts = client.Counter(
            "kopf_finalizers_cleanup_attempts",
            "Calls of the finalizer's cleanups that have ended.",
            (*LABELS, "outcome"),
            **options,
        )
        self._overdue = client.Counter(
            "kopf_finalizers_cleanups_overdue",
            "Cleanups that were not done within their release_after=.",
            LABELS,
            **options,
        )
        self._seconds = client.Histogram(
            "kopf_finalizers_release_seconds",
            "Seconds from the deletion of an object until the finalizer had gone.",
            (*LABELS, "outcome"),
            buckets=BUCKETS,
            **options,
        )

    def __call__(self, details: CleanupDetails, /) -> None:
        """Count it."""
        series = series_of(details)
        if self._held.note(details):
            self._objects.labels(*series).set_function(lambda: self._held.count(series))
            self._oldest.labels(*series).set_function(lambda: self._held.oldest(series))
            self._overdue.labels(*series)  # so that its first one is an increase
        outcome = details.outcome
        if details.event is CleanupEvent.ATTEMPT:
            self._attempts.labels(*series, outcome).inc()
        elif details.event is CleanupEvent.OVERDUE:
            self._overdue.labels(*series).inc()
        elif details.event is CleanupEvent.GONE and outcome != "unseen":
            self._seconds.labels(*series, outcome).observe(details.waited)


_known: "weakref.WeakKeyDictionary[CollectorRegistry, PrometheusHook]"
_known = weakref.WeakKeyDictionary()


def use_prometheus(*, registry: "CollectorRegistry | None" = None) -> PrometheusHook:
    """Have a Prometheus server see what the operators of this process hold.

    The series of `PrometheusHook` are in the registry from then on; how they are served is yours:
    `prometheus_client.start_http_server(8000)` in an `on.startup` handler, say. Called again with
    the same registry, it returns the same hook.

    Args:
        registry: As in `PrometheusHook`.

    Raises:
        ConfigurationError: There is no `prometheus-client`: install `kopf-finalizers[prometheus]`.

    Example:
        >>> from prometheus_client import CollectorRegistry, generate_latest
        >>> registry = CollectorRegistry()
        >>> hook = instrumentation.use_prometheus(registry=registry)
        >>> instrumentation.use_prometheus(registry=registry) is hook
        True
    """
    registry = _client().REGISTRY if registry is None else registry
    if registry not in _known:
        _known[registry] = PrometheusHook(registry=registry)
    add_hook(_known[registry])
    return _known[registry]


def _client() -> Any:
    try:
        return importlib.import_module("prometheus_client")
    except ImportError as error:
        raise ConfigurationError(
            "The series for Prometheus need prometheus-client, and it is not installed:"
            " pip install 'kopf-finalizers[prometheus]'. [missing-extra]"
        ) from error
