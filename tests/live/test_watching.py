"""What operators at work tell of the objects that they hold: series, hooks, events, deadlines.

The series are scraped over HTTP, from the server of Prometheus' own client, and compared with what
an independent watcher has seen.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import kopf
import pytest

from kopf_finalizers._deletions import posting, silence

from ..support.hooks import Told, telling
from ..support.operators import Operator, OperatorProcess, running
from ..support.proxies import Asked, Fate, Proxy
from ..support.series import Scraped, scraped, seen_held
from ..support.servers import Api, Body, Resource, Server, Watched, free_port, wait_until

MAIN = "mycompany.com/db-operator"
BACKUPS, DNS = f"{MAIN}.backups", f"{MAIN}.dns"
SKIP = "mycompany.com/skip-cleanup"


@pytest.fixture
def series() -> Iterator[Scraped]:
    with scraped() as series:
        yield series


def create(api: Api, resource: Resource, name: str = "one", **metadata: Any) -> Body:
    answer = api.create(resource.path, resource.body(name, **metadata)).raise_for_status()
    return dict(answer.json())


def delete(api: Api, resource: Resource, name: str = "one") -> None:
    api.delete(resource.path_to(name)).raise_for_status()


def finalizers_of(api: Api, resource: Resource, name: str = "one") -> list[str]:
    return list(api.get(resource.path_to(name)).json().get("metadata", {}).get("finalizers", []))


def has_all(api: Api, resource: Resource, name: str) -> bool:
    return len(finalizers_of(api, resource, name)) == 3


def failing(operator: Operator, failures: int, *, delay: float = 0.05) -> Any:
    """A cleanup that fails so often on each object."""

    def drop(retry: int, name: str, **_: Any) -> None:
        operator.calls.append(("drop", name))
        if retry < failures:
            raise kopf.TemporaryError("no route to the store", delay=delay)

    return drop


def give_up(**_: Any) -> None:
    raise kopf.PermanentError("there is no such zone")


def test_the_series_are_what_an_independent_watcher_counts(
    server: Server, api: Api, resource: Resource, seen: Watched, series: Scraped
) -> None:
    """Of a cleanup that fails ten times, of one that is given up, and of one that is skipped.

    And of an object that is made again under its name.
    """
    operator = Operator(resource, skip_cleanup=SKIP)
    operator.on.delete(*operator.resource, finalizer="backups")(failing(operator, 10))
    operator.on.delete(*operator.resource, finalizer="dns")(give_up)

    def agree() -> bool:
        held, released = seen_held(seen, MAIN)
        return series.held() == held and series.released() == released

    with running(operator.registry, server, resource):
        for _ in range(2):
            create(api, resource)
            wait_until(lambda: len(finalizers_of(api, resource)) == 3)
            delete(api, resource)
            deleted = api.get(resource.path_to("one")).json()["metadata"]["deletionTimestamp"]
            wait_until(lambda: series.held().get(BACKUPS) == 1)
            oldest = series.value("oldest_deletion_timestamp_seconds", BACKUPS)
            assert oldest == datetime.fromisoformat(deleted).timestamp()
            wait_until(lambda: not api.get(resource.path_to("one")).is_success)
            wait_until(agree, what="the series and the watcher agree")
        assert operator.called("drop") == 22
        create(api, resource, "skipped", annotations={SKIP: "backups"})
        wait_until(lambda: len(finalizers_of(api, resource, "skipped")) == 3)
        delete(api, resource, "skipped")
        wait_until(lambda: not api.get(resource.path_to("skipped")).is_success)
        wait_until(agree, what="the series and the watcher agree")
    assert ("drop", "skipped") not in operator.calls
    attempts = {
        outcome: series.value("cleanup_attempts_total", BACKUPS, outcome=outcome)
        for outcome in ("failed", "succeeded", "given_up")
    }
    assert attempts == {"failed": 20, "succeeded": 2, "given_up": 0}
    assert series.value("cleanup_attempts_total", DNS, outcome="given_up") == 3
    releases = "release_seconds_count"
    assert series.value(releases, BACKUPS, outcome="succeeded") == 2
    assert series.value(releases, BACKUPS, outcome="skipped") == 1
    assert series.value(releases, DNS, outcome="given_up") == 3
    assert series.held() == {}
    assert series.value("oldest_deletion_timestamp_seconds", BACKUPS) == 0


def test_a_deadline_counts_while_the_operator_is_killed(
    server: Server, api: Api, resource: Resource, seen: Watched, tmp_path: Path
) -> None:
    """Its finalizer goes when the operator is back, without another call; the others stay.

    The series are right then, too: for what was being deleted before it was killed, and for what
    went meanwhile.
    """
    port = free_port()
    operator = OperatorProcess(
        *("watched.py", server, tmp_path / "log"),
        resource=resource,
        EFFECTS=str(tmp_path),
        PORT=str(port),
    )
    series = Scraped(f"http://127.0.0.1:{port}/metrics")
    with operator:
        for name in ("one", "two"):
            create(api, resource, name)
        for name in ("one", "two"):
            wait_until(functools.partial(has_all, api, resource, name))
            delete(api, resource, name)
        wait_until(lambda: series.held() == {MAIN: 2, BACKUPS: 2, DNS: 2})
        wait_until(lambda: series.value("cleanup_attempts_total", DNS, outcome="failed") == 2)
        operator.kill()
        body = api.get(resource.path_to("one")).json()
        deleted = datetime.fromisoformat(body["metadata"]["deletionTimestamp"]).timestamp()
        api.merge_patch(resource.path_to("two"), {"metadata": {"finalizers": []}})
        seen.wait_for("DELETED", "two")
        wait_until(lambda: time.time() > deleted + 2)
        assert DNS in finalizers_of(api, resource)
        operator.start()
        wait_until(lambda: DNS not in finalizers_of(api, resource))
        wait_until(lambda: series.value("release_seconds_count", DNS, outcome="overdue") == 1)
        assert series.held() == {MAIN: 1, BACKUPS: 1}
        assert series.value("oldest_deletion_timestamp_seconds", BACKUPS) == deleted
        assert series.value("cleanups_overdue_total", DNS) == 1
        assert series.value("cleanup_attempts_total", DNS) == 0
        (tmp_path / "may-go").touch()
        seen.wait_for("DELETED", "one")
        wait_until(lambda: series.held() == {})
    assert (tmp_path / "dns").read_text().split() == ["called"] * 2
    assert "was not done within 2 seconds of the deletion" in operator.output()


def test_a_deadline_is_met_without_an_event(
    server: Server, api: Api, resource: Resource, seen: Watched
) -> None:
    """Though the next try is an hour away, the finalizer goes in time; nobody else's does."""
    operator = Operator(resource)
    operator.on.delete(
        *operator.resource, finalizer="backups", release_after=2, on_timeout="release"
    )(failing(operator, 9, delay=3600))
    with telling(Told()) as told, running(operator.registry, server, resource):
        create(api, resource, finalizers=["other.org/f"])
        wait_until(lambda: len(finalizers_of(api, resource)) == 3)
        delete(api, resource)
        seen.wait_until(lambda _: BACKUPS not in finalizers_of(api, resource), timeout=20)
        wait_until(lambda: finalizers_of(api, resource) == ["other.org/f"])
        api.merge_patch(resource.path_to("one"), {"metadata": {"finalizers": []}})
        seen.wait_for("DELETED", "one")
        wait_until(lambda: "gone overdue" in told.of(BACKUPS))
    assert told.of(BACKUPS) == ["held", "attempt failed", "overdue", "gone overdue"]
    assert 2 <= told.last("overdue").waited < 10
    assert operator.called("drop") == 1


def test_an_object_that_goes_while_no_watch_is_open_is_not_held_any_more(
    server: Server,
    api: Api,
    resource: Resource,
    seen: Watched,
    series: Scraped,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kopf tells nothing of it as long as there is none, and nothing later if the list is empty."""
    monkeypatch.setattr(silence, "PAUSES", (0.5,))
    monkeypatch.setattr(silence, "GRACE", 0.1)
    operator = Operator(resource)
    operator.on.delete(*operator.resource, finalizer="backups")(failing(operator, 9, delay=3600))
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout = 1
    is_closed, is_open_again = threading.Event(), threading.Event()
    closed = Fate(held=is_open_again)

    def watches(asked: Asked) -> Fate | None:
        is_watch = asked.path == resource.path and "watch=true" in asked.query
        return closed if is_watch and is_closed.is_set() else None

    with Proxy(server) as proxy, contextlib.ExitStack() as stack:
        stack.enter_context(telling(told := Told()))
        stack.enter_context(running(operator.registry, proxy, resource, settings=settings))
        stack.callback(is_open_again.set)
        proxy.rules.append(watches)
        create(api, resource)
        wait_until(lambda: len(finalizers_of(api, resource)) == 2)
        delete(api, resource)
        wait_until(lambda: series.held() == {MAIN: 1, BACKUPS: 1} and operator.called("drop"))
        is_closed.set()
        assert closed.reached.wait(30)
        api.merge_patch(resource.path_to("one"), {"metadata": {"finalizers": []}})
        seen.wait_for("DELETED", "one")
        wait_until(lambda: series.held() == {})
    assert told.of(BACKUPS) == ["held", "attempt failed", "gone unseen"]


def test_an_object_that_hangs_says_what_it_waits_for(
    server: Server, api: Api, resource: Resource, seen: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Kubernetes events, posted again and again, also where no cycle of Kopf's comes."""
    monkeypatch.setattr(posting, "REPEATED", 1)
    operator = Operator(resource, events=0.5)
    operator.on.delete(*operator.resource, finalizer="backups", release_after=1, on_timeout="keep")(
        failing(operator, 1, delay=3600)
    )
    settings = kopf.OperatorSettings()
    path = f"/api/v1/namespaces/{resource.namespace}/events"

    def posted(reason: str) -> list[str]:
        return [one["message"] for one in api.list(path) if one["reason"] == reason]

    with running(operator.registry, server, resource, settings=settings):
        settings.posting.enabled = True
        create(api, resource)
        wait_until(lambda: len(finalizers_of(api, resource)) == 2)
        delete(api, resource)
        wait_until(lambda: len(posted("CleanupPending")) >= 2 and posted("CleanupOverdue"))
        (event,) = [one for one in api.list(path) if one["reason"] == "CleanupOverdue"]
        api.merge_patch(resource.path_to("one"), {"metadata": {"finalizers": []}})
        seen.wait_for("DELETED", "one")
    assert event["type"] == "Warning"
    assert event["involvedObject"]["name"] == "one"
    assert f"{BACKUPS} stays." in event["message"]
    for message in posted("CleanupPending"):
        assert message.startswith(f"{BACKUPS} waits for the cleanup ")
        assert message.endswith("It was tried once; the last error: no route to the store.")
