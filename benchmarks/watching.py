"""What the series of an operator show when something that it cleans up with is away for a while.

Objects come and go all the time; in the middle third of the time the store of the backups does not
answer. The series are scraped over HTTP, as a Prometheus server does it.
"""

import contextlib
import itertools
import threading
import time
from typing import Any

import kopf

from tests.support.operators import Operator, running
from tests.support.series import Scrape, Scraped, scraped
from tests.support.servers import Api, KubeApiServer, Resource, client_of, wait_until

EVERY = 0.25
"""Seconds between two scrapes."""

PURPOSES = ("backups", "dns")


def measure(server: KubeApiServer, *, seconds: float) -> dict[str, Any]:
    """The series over the time, and when the store was away."""
    server.define("example.com", "v1", "watched", kind="Watched")
    resource = Resource("example.com", "v1", "watched", "Watched")
    operator = Operator(resource)
    away, over = threading.Event(), threading.Event()

    def drop_backups(**_: Any) -> None:
        if away.is_set():
            raise kopf.TemporaryError("the store does not answer", delay=1)

    def drop_dns(**_: Any) -> None: ...

    operator.on.delete(*operator.resource, finalizer="backups")(drop_backups)
    operator.on.delete(*operator.resource, finalizer="dns")(drop_dns)
    with (
        scraped() as series,
        contextlib.closing(client_of(server)) as api,
        running(operator.registry, server, resource),
    ):
        thread = threading.Thread(target=_come_and_go, args=(api, resource, over))
        thread.start()
        try:
            samples = list(_samples(series, away, seconds=seconds))
        finally:
            over.set()
            thread.join()
        wait_until(lambda: not api.list(resource.path), timeout=60)
    return {"seconds": seconds, "samples": samples}


def _come_and_go(api: Api, resource: Resource, over: threading.Event) -> None:
    """An object each 0.2 s, each of which is deleted a second later."""
    for number in itertools.count():
        if not over.is_set():
            api.create(resource.path, resource.body(f"object-{number}")).raise_for_status()
        api.delete(resource.path_to(f"object-{number - 5}"))
        if over.wait(0.2) and not any(
            "deletionTimestamp" not in one["metadata"] for one in api.list(resource.path)
        ):
            return


def _samples(series: Scraped, away: threading.Event, *, seconds: float) -> Any:
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if seconds / 3 < passed < 2 * seconds / 3:
            away.set()
        else:
            away.clear()
        yield {"seconds": round(passed, 2), "away": away.is_set(), **_sample(series.now())}
        time.sleep(EVERY)


def _sample(series: Scrape) -> dict[str, Any]:
    found = dict[str, Any]()
    now = time.time()
    for purpose in PURPOSES:
        name = f"mycompany.com/db-operator.{purpose}"
        oldest = series.value("oldest_deletion_timestamp_seconds", name)
        found[purpose] = {
            "held": series.value("held_objects", name),
            "oldest": round(now - oldest, 2) if oldest else 0.0,
            "failed": series.value("cleanup_attempts_total", name, outcome="failed"),
            "succeeded": series.value("cleanup_attempts_total", name, outcome="succeeded"),
        }
    return found
