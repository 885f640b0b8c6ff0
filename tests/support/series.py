"""Series as a Prometheus server scrapes them, and what an independent watcher makes of objects."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import prometheus_client
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from kopf_finalizers.instrumentation import PrometheusHook

from .hooks import telling
from .servers import Watched


@dataclass(frozen=True)
class Scrape:
    """All series at one moment."""

    samples: list[Sample]

    def value(self, name: str, finalizer: str, **labels: str) -> float:
        """One of them; 0 if there is none with these labels, as for whoever adds them up."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"kopf_finalizers_{name}"
            and labels.items() | {("finalizer", finalizer)} <= sample.labels.items()
        )

    def by_finalizer(self, name: str) -> dict[str, int]:
        """The same for each finalizer, whatever its other labels are."""
        found = Counter[str]()
        for sample in self.samples:
            if sample.name == f"kopf_finalizers_{name}":
                found[sample.labels["finalizer"]] += int(sample.value)
        return dict(found)


@dataclass(frozen=True)
class Scraped:
    """Where series are served."""

    url: str

    def now(self) -> Scrape:
        text = httpx.get(self.url, trust_env=False).raise_for_status().text
        families = text_string_to_metric_families(text)
        return Scrape([sample for family in families for sample in family.samples])

    def value(self, name: str, finalizer: str, **labels: str) -> float:
        return self.now().value(name, finalizer, **labels)

    def held(self) -> dict[str, int]:
        """How many objects each finalizer holds; those that hold none are left out."""
        found = self.now().by_finalizer("held_objects")
        return {name: found[name] for name in found if found[name]}

    def released(self) -> dict[str, int]:
        """How often each finalizer was released, whatever for."""
        return self.now().by_finalizer("release_seconds_count")


@contextlib.contextmanager
def scraped() -> Iterator[Scraped]:
    """The series of this process, served by `prometheus_client` as operators serve them."""
    registry = prometheus_client.CollectorRegistry()
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    try:
        with telling(PrometheusHook(registry=registry)):
            yield Scraped(f"http://127.0.0.1:{server.server_port}/metrics")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def seen_held(seen: Watched, prefix: str) -> tuple[dict[str, int], dict[str, int]]:
    """What a watcher has seen: objects held now, and releases, by the operator's finalizers."""
    held, released = dict[str, set[str]](), Counter[str]()
    for name, uid in {(one["metadata"]["name"], one["metadata"]["uid"]) for _, one in seen.of()}:
        there = set[str]()
        for type_, body in seen.of(name):
            metadata = body["metadata"]
            if metadata["uid"] != uid or "deletionTimestamp" not in metadata:
                continue
            now = set() if type_ == "DELETED" else set(metadata.get("finalizers", ()))
            released.update(one for one in there - now if one.startswith(prefix))
            there = now
        held |= {one: held.get(one, set()) | {uid} for one in there if one.startswith(prefix)}
    return {one: len(uids) for one, uids in held.items()}, dict(released)
