"""The end of an object whose status somebody writes without pause: how long its cleanups take.

What is sent with a version is lost whenever a status was written in between. So this is where a
release that carries progress could starve.
"""

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.operators import OperatorProcess
from tests.support.servers import KubeApiServer, Resource, client_of, wait_until

from .lifecycle import ready

VARIANTS = ("plain, 3 cleanups", "library, 3 cleanups")
RATES = (0, 10, 40)
PATIENCE = 20.0


def measure(server: KubeApiServer, *, repeat: int) -> dict[str, Any]:
    """Seconds from the deletion until the object is gone, by writes of the status per second.

    Medians of rounds in which both variants took turns; `PATIENCE` stands for no end at all.
    """
    taken: dict[tuple[str, int], list[float]] = {
        (variant, rate): [] for variant in VARIANTS for rate in RATES
    }
    for number in range(len(VARIANTS)):
        server.define("example.com", "v1", f"busies{number}", kind=f"Busy{number}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        resources = dict[str, Resource]()
        for number, variant in enumerate(VARIANTS):
            resource = Resource("example.com", "v1", f"busies{number}", f"Busy{number}")
            resources[variant] = resource
            operator = OperatorProcess(
                Path(__file__).with_name("operator.py").absolute(),
                server,
                folder / f"log{number}",
                resource=resource,
                VARIANT=variant,
            )
            stack.enter_context(operator)
            api = stack.enter_context(contextlib.closing(client_of(server)))
            with api.watching(resource.path) as seen:
                ready(api, resource, seen)
        for turn in range(repeat):
            order = VARIANTS if turn % 2 else VARIANTS[::-1]
            for rate in RATES:
                for variant in order:
                    name = f"object-{turn}-{rate}"
                    taken[variant, rate].append(_end(server, resources[variant], name, rate))
    return {
        f"{rate} writes/s": {
            f"{variant}, s": statistics.median(taken[variant, rate]) for variant in VARIANTS
        }
        for rate in RATES
    }


def _end(server: KubeApiServer, resource: Resource, name: str, rate: int) -> float:
    path = resource.path_to(name)
    with contextlib.closing(client_of(server)) as api:
        api.create(resource.path, resource.body(name)).raise_for_status()
        wait_until(lambda: "last-handled" in api.get(path).text, what="handled")
        with _writing(server, f"{path}/status", rate):
            api.delete(path).raise_for_status()
            began = time.perf_counter()
            try:
                wait_until(lambda: api.get(path).status_code == 404, timeout=PATIENCE)
            except TimeoutError:
                api.merge_patch(path, {"metadata": {"finalizers": None}}).raise_for_status()
                return PATIENCE
            return time.perf_counter() - began


@contextlib.contextmanager
def _writing(server: KubeApiServer, path: str, rate: int) -> Iterator[None]:
    """Somebody who writes the status so many times a second."""
    stop = threading.Event()

    def write() -> None:
        with contextlib.closing(client_of(server)) as api:
            number, due = 0, time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                number, due = number + 1, due + 1 / rate
                api.merge_patch(path, {"status": {"number": number}})

    writer = threading.Thread(target=write)
    if rate:
        writer.start()
    try:
        yield
    finally:
        stop.set()
        if rate:
            writer.join()
