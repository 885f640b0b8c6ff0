"""What is spent inside the process: building a patch, an event with its finalizers in place."""

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import kopf
from prometheus_client import CollectorRegistry

import kopf_finalizers
from kopf_finalizers import instrumentation
from kopf_finalizers._changes import AddFinalizer
from tests.support.cycles import settled_event
from tests.support.hooks import telling

NAME = "mycompany.com/db-operator"


def body_of(values: int) -> dict[str, Any]:
    lists = max(1, values // 100)
    return {
        "metadata": {
            "name": "one",
            "uid": "1-2",
            "resourceVersion": "1",
            "finalizers": ["a.org/f"],
        },
        "spec": {f"list{number}": list(range(values // lists)) for number in range(lists)},
    }


def microseconds(call: Callable[[], object], *, repeat: int) -> float:
    """The median of several timings, each of so many calls that a clock can measure them."""
    calls = 1
    while _timed(call, calls) < 0.02:
        calls *= 2
    return statistics.median(_timed(call, calls) / calls for _ in range(repeat)) * 1e6


def fastest(call: Callable[[], object], *, repeat: int) -> float:
    """The fastest of many short timings: whatever else the machine does only adds to them."""
    return min(_timed(call, 50) / 50 for _ in range(40 * repeat)) * 1e6


def _timed(call: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - began


def measure_patches(*, repeat: int) -> dict[str, Any]:
    """`json_patch` against what Kopf does for the same change, by the size of the body."""
    results = dict[str, Any]()
    for values in (10, 10_000):
        body = body_of(values)
        patch = kopf.Patch(body=kopf.Body(cast("kopf.RawBody", body)), fns=[AddFinalizer(NAME)])
        ours = microseconds(partial(kopf_finalizers.json_patch, body, add=NAME), repeat=repeat)
        kopfs = microseconds(patch.as_json_patch, repeat=repeat)
        results[f"{values} values"] = {
            "json_patch, µs": ours,
            "as_json_patch, µs": kopfs,
            "ratio": kopfs / ours,
        }
    return results


def measure_events(*, repeat: int) -> dict[str, Any]:
    """The library's own time for one event of one object with all its finalizers in place."""
    logging.getLogger("kopf_finalizers").setLevel(logging.ERROR)
    results = dict[str, Any]()
    hook = instrumentation.PrometheusHook(registry=CollectorRegistry())
    for count in (0, 1, 3, 10, 100):
        quiet = settled_event(count)
        with telling(hook):
            watched = settled_event(count)
            told = fastest(watched, repeat=repeat)
        took = fastest(quiet, repeat=repeat)
        results[f"{count} dedicated"] = {
            "per event, µs": took,
            "per finalizer, µs": took / count if count else "",
            "per event with a hook, µs": told,
        }
    return results


def measure_import(*, repeat: int) -> dict[str, Any]:
    """What importing the library adds after Kopf, of which most is pydantic."""
    return {"after kopf, ms": statistics.median(_import_ms() for _ in range(repeat))}


def _import_ms() -> float:
    # Kopf imports a client library where there is one, and pydantic with it: here there is none.
    clients = ["kubernetes", "kubernetes_asyncio", "pykube"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({clients})); import kopf;"
        " from kopf_finalizers import _configure"  # where configure() is: the package waits for it
    )
    command = [sys.executable, "-X", "importtime", "-c", code]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stderr
    ends = ("| kopf_finalizers", "| kopf_finalizers._configure")
    lines = [line for line in told.splitlines() if line.endswith(ends)]
    return sum(float(line.split("|")[1]) for line in lines) / 1000
