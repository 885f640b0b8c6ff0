"""Hooks, and what the ready ones make of what they are told; no operator takes part here."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from kopf_finalizers import ConfigurationError, instrumentation
from kopf_finalizers.instrumentation import CleanupDetails, CleanupEvent, CleanupOutcome
from kopf_finalizers.instrumentation._hooks import listen, tell

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
BACKUPS = "mycompany.com/db-operator.backups"
LABELS = {"finalizer": BACKUPS, "resource": "databases.v1.mycompany.com"}
HELD = CleanupDetails(
    event=CleanupEvent.HELD,
    operator="mycompany.com/db-operator",
    finalizer=BACKUPS,
    resource="databases.v1.mycompany.com",
    namespace="default",
    name="one",
    uid="1",
    deleted_at=BEGAN,
    at=BEGAN + timedelta(seconds=2),
)


def after(seconds: float, event: str, outcome: str | None = None, **rest: Any) -> CleanupDetails:
    return replace(
        HELD,
        event=CleanupEvent(event),
        outcome=CleanupOutcome(outcome) if outcome else None,
        at=BEGAN + timedelta(seconds=seconds),
        **rest,
    )


LIFE = [
    HELD,
    replace(HELD, uid="2", deleted_at=BEGAN + timedelta(seconds=1)),
    after(3, "attempt", "failed", handler="drop_backups", attempts=1, error="no route"),
    after(6, "attempt", "failed", handler="drop_backups", attempts=2, error="no route"),
    after(9, "overdue"),
    after(9, "attempt", "succeeded", handler="drop_backups", attempts=3),
    after(10, "gone", "succeeded"),
    after(12, "gone", "unseen", uid="2"),
]


@pytest.fixture(autouse=True)
def no_hooks() -> Iterator[None]:
    """Hooks belong to the process: what a test adds goes with it."""
    yield
    for hook in instrumentation.get_hooks():
        instrumentation.remove_hook(hook)


def test_all_hooks_are_told_in_the_order_in_which_they_came() -> None:
    """Each once, also where it was added twice, and no more when it was removed."""
    told = list[tuple[str, CleanupDetails]]()

    def first(details: CleanupDetails) -> None:
        told.append(("first", details))

    def second(details: CleanupDetails) -> None:
        told.append(("second", details))

    for hook in (first, second, first):
        instrumentation.add_hook(hook)
    assert instrumentation.get_hooks() == (first, second)
    tell(HELD)
    instrumentation.remove_hook(first)
    tell(LIFE[1])
    assert told == [("first", HELD), ("second", HELD), ("second", LIFE[1])]


def test_a_hook_that_raises_harms_nobody_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The other hooks are told, it is called again, and the log names it once."""
    calls = list[str]()

    def broken(details: CleanupDetails) -> None:
        calls.append("broken")
        raise RuntimeError("no disk")

    def sound(details: CleanupDetails) -> None:
        calls.append("sound")

    instrumentation.add_hook(broken)
    instrumentation.add_hook(sound)
    with caplog.at_level(logging.ERROR):
        tell(HELD)
        tell(HELD)
    assert calls == ["broken", "sound"] * 2
    (record,) = caplog.records
    assert "broken" in record.message
    assert "no disk" in str(record.exc_text)


async def _asynchronous(details: CleanupDetails) -> None: ...


class _Asynchronous:
    async def __call__(self, details: CleanupDetails) -> None: ...


@pytest.mark.parametrize("hook", ["prometheus", _asynchronous, _Asynchronous()])
def test_what_could_not_be_called_is_refused(hook: Any) -> None:
    """An asynchronous function would never run: nobody waits for it."""
    with pytest.raises(ConfigurationError, match="must be a plain function"):
        instrumentation.add_hook(hook)
    assert instrumentation.get_hooks() == ()


def test_an_operator_begins_to_look_when_there_is_a_hook() -> None:
    """Whichever was first."""

    class Listener:
        begun = 0

        def begin(self) -> None:
            self.begun += 1

    early, late = Listener(), Listener()
    listen(early)
    assert early.begun == 0
    instrumentation.add_hook(print)
    listen(late)
    assert (early.begun, late.begun) == (1, 1)


def test_details_are_a_record() -> None:
    """A hook cannot change what the next one is told, and clocks that differ make no negative."""
    with pytest.raises(FrozenInstanceError):
        HELD.name = "two"  # type: ignore[misc]
    assert HELD.waited == 2
    assert after(-1, "held").waited == 0


def test_prometheus_has_series_by_finalizer_and_resource() -> None:
    """What is held now and since when, the attempts, and the time to the release; no object."""
    registry = CollectorRegistry()
    instrumentation.use_prometheus(registry=registry)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"kopf_finalizers_{name}", LABELS | labels)

    seen = list[tuple[float | None, float | None]]()
    for details in LIFE:
        tell(details)
        seen.append((value("held_objects"), value("oldest_deletion_timestamp_seconds")))
    began = BEGAN.timestamp()
    assert seen == [(1, began), *[(2, began)] * 5, (1, began + 1), (0, 0)]
    assert value("cleanup_attempts_total", outcome="failed") == 2
    assert value("cleanup_attempts_total", outcome="succeeded") == 1
    assert value("cleanups_overdue_total") == 1
    assert value("release_seconds_count", outcome="succeeded") == 1
    assert value("release_seconds_sum", outcome="succeeded") == 10
    assert value("release_seconds_count", outcome="unseen") is None
    labels = {key for family in registry.collect() for one in family.samples for key in one.labels}
    assert labels == {"finalizer", "resource", "outcome", "le"}


def test_prometheus_is_asked_for_by_one_call_however_often() -> None:
    """One hook for each registry; two registries show the same."""
    registry, other = CollectorRegistry(), CollectorRegistry()
    hook = instrumentation.use_prometheus(registry=registry)
    assert instrumentation.use_prometheus(registry=registry) is hook
    assert instrumentation.use_prometheus(registry=other) is not hook
    assert len(instrumentation.get_hooks()) == 2


def test_prometheus_registers_with_the_clients_own_registry() -> None:
    """Which is where a server of the client looks, unless it is told otherwise."""
    from prometheus_client import REGISTRY

    instrumentation.use_prometheus()
    tell(HELD)
    assert REGISTRY.get_sample_value("kopf_finalizers_held_objects", LABELS) == 1
    tell(after(1, "gone", "succeeded"))
    assert REGISTRY.get_sample_value("kopf_finalizers_held_objects", LABELS) == 0


def test_opentelemetry_has_the_same_metrics() -> None:
    """By the same attributes."""
    reader = InMemoryMetricReader()
    instrumentation.use_opentelemetry(meter_provider=MeterProvider([reader]))

    def points() -> dict[tuple[str, str], Any]:
        data = reader.get_metrics_data()
        assert data is not None
        return {
            (metric.name.removeprefix("kopf_finalizers."), str(attributes.get("outcome", ""))): one
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for one in metric.data.data_points
            if (attributes := dict(one.attributes or {}))
            and {key: attributes[key] for key in LABELS} == LABELS
        }

    tell(LIFE[0])
    first = points()
    assert first["held_objects", ""].value == 1
    assert first["oldest_deletion_timestamp", ""].value == BEGAN.timestamp()
    for details in LIFE[1:]:
        tell(details)
    last = points()
    assert last["held_objects", ""].value == last["oldest_deletion_timestamp", ""].value == 0
    assert last["cleanup_attempts", "failed"].value == 2
    assert last["cleanup_attempts", "succeeded"].value == 1
    assert last["cleanups_overdue", ""].value == 1
    assert last["release_duration", "succeeded"].sum == 10


@pytest.mark.parametrize(
    ("use", "module", "extra"),
    [
        (instrumentation.use_prometheus, "prometheus_client", "prometheus"),
        (instrumentation.use_opentelemetry, "opentelemetry.metrics", "opentelemetry"),
    ],
)
def test_a_client_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, use: Any, module: str, extra: str
) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf"kopf-finalizers\[{extra}\]"):
        use()
