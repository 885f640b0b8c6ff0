"""The life of many objects: how many requests and how much time an operator takes for them."""

import contextlib
import itertools
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.operators import OperatorProcess
from tests.support.servers import Api, KubeApiServer, Resource, Watched, client_of

COMPARED = [
    ("plain", "plain"),
    ("library", "plain"),
    ("plain, 3 finalizers by hand", "plain"),
    ("library, 3 dedicated finalizers", "plain"),
    ("library, 3 dedicated finalizers", "plain, 3 finalizers by hand"),
    ("plain, 3 cleanups", "plain, 3 cleanups"),
    ("library, 3 cleanups", "plain, 3 cleanups"),
]


def measure(server: KubeApiServer, *, objects: int, repeat: int) -> dict[str, Any]:
    """What each variant took, and comparisons of what was measured in the same rounds."""
    resources = dict[str, Resource]()
    for number, variant in enumerate(dict.fromkeys(variant for variant, _ in COMPARED)):
        plural = f"lives{number}"
        server.define("example.com", "v1", plural, kind=f"Life{number}")
        resources[variant] = Resource("example.com", "v1", plural, f"Life{number}")
    rounds: dict[str, list[tuple[float, float]]] = {variant: [] for variant in resources}
    for turn in range(repeat):
        order = list(resources)
        # Nobody is always first, or after the same: what the server has left to do falls on each.
        random.Random(turn).shuffle(order)
        for variant in order:
            rounds[variant].append(_round(server, resources[variant], variant, objects))
    return {
        "comparisons": [_compared(variant, other, rounds) for variant, other in COMPARED],
        "rounds: patches per object, seconds": rounds,
    }


def _compared(
    variant: str, other: str, rounds: dict[str, list[tuple[float, float]]]
) -> dict[str, Any]:
    pairs = zip(rounds[variant], rounds[other], strict=True)
    ratios = sorted(own[1] / others[1] for own, others in pairs)
    outside = _outside(len(ratios))
    return {
        "variant": variant,
        "compared with": other,
        "patches per object": statistics.median(patches for patches, _ in rounds[variant]),
        "wall time, ratio": statistics.median(ratios),
        "at least": ratios[outside],
        "at most": ratios[-1 - outside],
    }


def _outside(count: int) -> int:
    """How many values to leave out at each end: the median is in between, in 19 of 20 cases.

    It needs no idea of how the values are spread: each is on either side of the median as a coin
    falls. Of fewer than six values none can be left out.
    """
    chances = itertools.accumulate(math.comb(count, n) / 2.0**count for n in range(count))
    return max(0, sum(chance <= 0.025 for chance in chances) - 1)


def _round(
    server: KubeApiServer, resource: Resource, variant: str, objects: int
) -> tuple[float, float]:
    """PATCH requests per object, and seconds, from the first creation to the last one gone."""
    names = [f"object-{number}" for number in range(objects)]
    with (
        contextlib.closing(client_of(server)) as api,
        tempfile.TemporaryDirectory() as folder,
        OperatorProcess(
            Path(__file__).with_name("operator.py").absolute(),
            server,
            Path(folder, "log"),
            resource=resource,
            VARIANT=variant,
        ) as operator,
        api.watching(resource.path) as seen,
        ThreadPoolExecutor(4) as pool,
    ):
        ready(api, resource, seen)
        before = patches(api, resource)
        began = time.perf_counter()

        def at_once(call: Callable[[str], Any]) -> None:
            for answer in pool.map(call, names):
                answer.raise_for_status()

        try:
            at_once(lambda name: api.create(resource.path, resource.body(name)))
            wait(seen, objects, is_handled)
            at_once(lambda name: api.delete(resource.path_to(name)))
            wait(seen, objects, is_gone)
        except TimeoutError as error:
            error.add_note(f"The end of the log of {variant}: {operator.output()[-2000:]}")
            raise
        seconds = time.perf_counter() - began
        return (patches(api, resource) - before) / objects, seconds


def ready(api: Api, resource: Resource, seen: Watched) -> None:
    """The operator has started when it has handled an object, and let it go."""
    api.create(resource.path, resource.body("first")).raise_for_status()
    seen.wait_until(lambda _: any("last-handled" in str(b) for _, b in seen.of("first")))
    api.delete(resource.path_to("first")).raise_for_status()
    seen.wait_for("DELETED", "first")


def wait(
    seen: Watched,
    objects: int,
    condition: Callable[[str, dict[str, Any]], bool],
    *,
    timeout: float = 120,
) -> None:
    """Until the condition has held for so many objects in anything that the watch has seen."""
    done, place = set[str](), 0

    def all_done(_: Watched) -> bool:
        nonlocal place
        news, place = seen.events[place:], len(seen.events)
        done.update(b["metadata"]["name"] for t, b in news if condition(t, b))
        return len(done - {"first"}) == objects

    seen.wait_until(all_done, timeout=timeout)


def is_handled(type_: str, body: dict[str, Any]) -> bool:
    """The operator has recorded that it has handled it."""
    annotations = body["metadata"].get("annotations", {})
    return any(key.endswith("/last-handled-configuration") for key in annotations)


def is_gone(type_: str, body: dict[str, Any]) -> bool:
    """It is deleted, and nobody holds it."""
    return type_ == "DELETED"


def patches(api: Api, resource: Resource) -> int:
    """PATCH requests of the resource, as the API server counts them."""
    total = 0.0
    for line in api.get("/metrics").text.splitlines():
        if line.startswith("apiserver_request_total{") and f'resource="{resource.plural}"' in line:
            labels, _, value = line.rpartition(" ")
            total += float(value) if 'verb="PATCH"' in labels else 0
    return int(total)
