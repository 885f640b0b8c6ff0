"""A finalizer that comes and goes: the demo's two operators on one object, watched for a while."""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.operators import OperatorProcess
from tests.support.servers import Api, KubeApiServer, Resource, client_of, wait_until

OPERATORS = Path(__file__).parents[1] / "examples" / "demo" / "operators"
GADGETS = Resource("demo.example.com", "v1", "gadgets", "Gadget")


def measure(server: KubeApiServer, *, seconds: float) -> dict[str, Any]:
    """When operator A's finalizer was on the object, with Kopf's default names and with ours."""
    server.define(GADGETS.group, GADGETS.version, GADGETS.plural, kind=GADGETS.kind)
    with contextlib.closing(client_of(server)) as api:
        return {
            "Kopf's default names": _story(server, api, "before", seconds),
            "with kopf-finalizers": _story(server, api, "after", seconds),
        }


def _story(server: KubeApiServer, api: Api, mode: str, seconds: float) -> dict[str, Any]:
    name = f"gadget-{mode}"
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.ExitStack() as operators,
        api.watching(GADGETS.path) as seen,
    ):
        for letter in "ab":
            log = Path(folder, f"{letter}.log")
            file = OPERATORS / f"{letter}_{mode}.py"
            operators.enter_context(
                OperatorProcess(file, server, log, resource=GADGETS, DEMO_FOLDER=folder)
            )
        for letter in "ab":
            started = Path(folder, f"{letter}.log")
            wait_until(lambda log=started: "watch-stream for gadgets" in log.read_text())  # type: ignore[misc]
        began = time.monotonic()
        changes = list[tuple[float, bool]]()
        writes = place = 0
        deleted = gone = False
        api.create(GADGETS.path, GADGETS.body(name)).raise_for_status()
        while not gone:
            passed = time.monotonic() - began
            if passed > seconds and not deleted:
                deleted = True
                api.delete(GADGETS.path_to(name)).raise_for_status()
            if passed > seconds + 60:
                raise TimeoutError(f"{name} is still there")
            with seen.changed:
                if len(seen.events) == place:
                    seen.changed.wait(0.05)
                news, place = seen.events[place:], len(seen.events)
            for type_, body in news:
                gone = type_ == "DELETED"
                writes += type_ == "MODIFIED"
                there = not gone and bool(body["metadata"].get("finalizers"))
                if not changes or changes[-1][1] != there:
                    changes.append((round(time.monotonic() - began, 4), there))
        return {
            "seconds until deleted": seconds,
            "added": sum(there for _, there in changes),
            "writes": writes,
            "changes": changes,
            "cleanup ran": Path(folder, f"{name}.dropped").exists(),
        }
