"""What an operator's process takes by the number of objects: CPU, memory, and time for a restart.

Objects are created and handled, found again by another process, and deleted. CPU and memory are the
operator's own, as Linux counts them, so that a busy machine does not matter much.
"""

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.operators import OperatorProcess
from tests.support.servers import KubeApiServer, Resource, client_of, wait_until

from .lifecycle import is_gone, is_handled, patches, ready, wait

BY_HAND = "plain, 3 finalizers by hand"
VARIANTS = ("plain", "library", BY_HAND, "library, 3 dedicated finalizers")

Cost = dict[str, float]


def measure(
    server: KubeApiServer, *, sizes: Sequence[int], repeat: int, variants: Sequence[str] = VARIANTS
) -> list[dict[str, Any]]:
    """A row for each size and variant: medians of rounds in which all variants took turns.

    A large size is measured less often than a small one: what comes once for each object is
    averaged there already.
    """
    rows = list[dict[str, Any]]()
    for size in sizes:
        turns: dict[str, list[Cost]] = {variant: [] for variant in variants}
        for turn in range(max(1, min(repeat, max(sizes) // size))):
            start = turn % len(variants)
            for variant in (*variants[start:], *variants[:start]):
                plural = f"sizes{size}x{turn}x{variants.index(variant)}"
                server.define("example.com", "v1", plural, kind=plural.title())
                resource = Resource("example.com", "v1", plural, plural.title())
                turns[variant].append(_life(server, resource, variant, size))
        for variant in variants:
            rows.append({"objects": f"{size:,}", "": variant, **_row(turns, variant)})
    return rows


def _row(turns: dict[str, list[Cost]], variant: str) -> dict[str, float]:
    medians = {
        what: statistics.median(cost[what] for cost in turns[variant]) for what in turns[variant][0]
    }
    pairs = list(zip(turns[variant], turns[BY_HAND], strict=True))
    return {
        "CPU, s": medians["CPU"],
        "CPU, of by hand": statistics.median(own["CPU"] / other["CPU"] for own, other in pairs),
        "peak, MiB": medians["peak"],
        "peak, of by hand": statistics.median(own["peak"] / other["peak"] for own, other in pairs),
        "found again, s": medians["found again"],
        "PATCH requests per object": medians["patches"],
    }


def _life(server: KubeApiServer, resource: Resource, variant: str, objects: int) -> Cost:
    names = [f"object-{number}" for number in range(objects)]
    timeout = 120 + objects / 5
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(contextlib.closing(client_of(server)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pool = stack.enter_context(ThreadPoolExecutor(4))
        seen = stack.enter_context(api.watching(resource.path))
        operator = OperatorProcess(
            Path(__file__).with_name("operator.py").absolute(),
            server,
            folder / "log",
            resource=resource,
            VARIANT=variant,
            OBJECTS=str(objects),
            FOUND=str(folder / "found"),
            COST=str(folder / "cost"),
        )
        operator.arguments.remove("--verbose")
        stack.enter_context(operator)

        def at_once(call: Callable[[str], Any]) -> None:
            for answer in pool.map(call, names):
                answer.raise_for_status()

        try:
            ready(api, resource, seen)
            before = patches(api, resource)
            at_once(lambda name: api.create(resource.path, resource.body(name)))
            wait(seen, objects, is_handled, timeout=timeout)
            first = _stopped(operator, folder)
            began = time.perf_counter()
            operator.start()
            wait_until((folder / "found").exists, timeout=timeout, what="all found again")
            again = time.perf_counter() - began
            at_once(lambda name: api.delete(resource.path_to(name)))
            wait(seen, objects, is_gone, timeout=timeout)
            second = _stopped(operator, folder)
        except TimeoutError as error:
            error.add_note(f"The end of the log of {variant}: {operator.output()[-2000:]}")
            raise
        return {
            "CPU": first["seconds"] + second["seconds"],
            "peak": max(first["MiB"], second["MiB"]),
            "found again": again,
            "patches": (patches(api, resource) - before) / objects,
        }


def _stopped(operator: OperatorProcess, folder: Path) -> Cost:
    """What the process has taken: it says so at its end."""
    operator.stop()
    cost: Cost = json.loads((folder / "cost").read_text())
    (folder / "cost").unlink()
    return cost
