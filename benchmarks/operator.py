"""The operator of the lifecycle and the size benchmark, in the variant that VARIANT names.

With FOUND it writes that file when it has found OBJECTS objects again after a restart; with COST it
writes there, at its end, what it has taken.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

import kopf_finalizers

VARIANT = os.environ["VARIANT"]
BY_HAND = [f"mycompany.com/plain.{purpose}" for purpose in ("database", "audit", "backups")]
RESOURCE = (os.environ["GROUP"], "v1", os.environ["PLURAL"])


async def handler(**_: Any) -> None: ...


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    if VARIANT.startswith("plain"):
        settings.persistence.finalizer = "mycompany.com/plain"


def handle_restarts() -> None:
    """Note what is found again, and what the process has taken from its startup to its end."""
    found, began = set[str](), list[float]()

    @kopf.on.resume(*RESOURCE)
    async def note(uid: str, **_: Any) -> None:
        found.add(uid)
        if len(found) == int(os.environ["OBJECTS"]):
            Path(os.environ["FOUND"]).touch()  # noqa: ASYNC240 - once

    @kopf.on.startup()
    def begin(**_: Any) -> None:
        began.append(time.process_time())

    @kopf.on.cleanup()
    def end(**_: Any) -> None:
        # Not from getrusage(): to that belongs what the parent had when it made this process.
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        cost = {"seconds": time.process_time() - began[0], "MiB": int(peak) / 1024}
        Path(os.environ["COST"]).write_text(json.dumps(cost))


def by_hand(body: kopf.Body, patch: kopf.Patch, **_: Any) -> bool:
    """The least that puts on three finalizers and takes them off: nothing waits for a cleanup."""
    there = set(body.metadata.get("finalizers", ())) & set(BY_HAND)
    if "deletionTimestamp" in body.metadata:
        if there:
            patch.fns.append(take_off)
    elif len(there) < len(BY_HAND):
        patch.fns.append(put_on)
    return False


def put_on(body: Any) -> None:
    there = body["metadata"].setdefault("finalizers", [])
    there.extend(name for name in BY_HAND if name not in there)


def take_off(body: Any) -> None:
    there = body["metadata"].get("finalizers", [])
    body["metadata"]["finalizers"] = [name for name in there if name not in BY_HAND]


def handle_changes(on: Any) -> None:
    for decorator in (on.create, on.update, on.delete):
        decorator(*RESOURCE)(handler)


def each(decorator: Callable[..., Any], *finalizers: str) -> None:
    for number, name in enumerate(finalizers):
        decorator(*RESOURCE, id=f"{decorator.__name__}-{number}", finalizer=name)(handler)


match VARIANT:
    case "plain":
        handle_changes(kopf.on)
    case "plain, 3 finalizers by hand":
        handle_changes(kopf.on)
        kopf.on.event(*RESOURCE, when=by_hand)(handler)
    case "plain, 3 cleanups":
        kopf.on.create(*RESOURCE)(handler)
        for number in range(3):
            kopf.on.delete(*RESOURCE, id=f"delete-{number}")(handler)
    case "library":
        handle_changes(kopf_finalizers.configure("mycompany.com", "library").on)
    case "library, 3 dedicated finalizers":
        on = kopf_finalizers.configure("mycompany.com", "library").on
        on.create(*RESOURCE, finalizer="database")(handler)
        on.update(*RESOURCE, finalizer="audit")(handler)
        on.delete(*RESOURCE, finalizer="backups")(handler)
    case "library, 3 cleanups":
        on = kopf_finalizers.configure("mycompany.com", "library").on
        on.create(*RESOURCE)(handler)
        each(on.delete, "database", "audit", "backups")
    case _:
        raise ValueError(VARIANT)

if "FOUND" in os.environ:
    handle_restarts()
