"""Kopf's handling cycles over one object, without an API server: one call, one patch.

This is Kopf's own code from the event to the patch, private as it is: what handlers, filters and
storages are asked, and in which order, is Kopf's answer and not a test's idea of it.
"""

import asyncio
import inspect
import logging
from dataclasses import dataclass
from typing import Any, cast

import jsonpatch
import kopf
from kopf._core.engines.activities import run_activity
from kopf._core.engines.indexing import OperatorIndexers
from kopf._core.intents.causes import Activity
from kopf._core.reactor.inventory import ResourceMemories
from kopf._core.reactor.processing import process_resource_causes

from .servers import Body

RESOURCE = kopf.Resource(
    group="example.com",
    version="v1",
    plural="things",
    kind="Thing",
    singular="thing",
    shortcuts=frozenset(),
    categories=frozenset(),
    subresources=frozenset(),
    namespaced=True,
    preferred=True,
    verbs=frozenset({"list", "watch", "patch"}),
)

logger = logging.getLogger("cycle")


@dataclass
class Outcome:
    """What one cycle has come to."""

    body: Body
    patch: kopf.Patch
    delays: list[float]
    operations: list[Any]

    def after(self) -> Body:
        """The object when Kopf has sent the patch: the merge patch, and then the functions."""
        return cast("Body", jsonpatch.apply_patch(self.body, self.operations))

    def stored(self) -> Body:
        """The same as the server has it: with a new version, if anything has changed."""
        changed = self.after()
        if changed == self.body or "resourceVersion" not in changed["metadata"]:
            return changed
        version = str(int(self.body["metadata"]["resourceVersion"]) + 1)
        return {**changed, "metadata": {**changed["metadata"], "resourceVersion": version}}

    def finalizers(self) -> list[str]:
        return finalizers_of(self.after())


def cycle(
    registry: kopf.OperatorRegistry,
    settings: kopf.OperatorSettings,
    body: Body,
    *,
    leftover: kopf.Patch | None = None,
    type: Any = "MODIFIED",  # noqa: A002 - Kopf's name
    listed: bool = False,
    resource: kopf.Resource = RESOURCE,
) -> Outcome:
    """One event of one object, from Kopf's filters to the patch that it would send."""
    seen = kopf.Body(cast("kopf.RawBody", body))
    patch = kopf.Patch(leftover, body=seen)
    event = {"type": type, "object": body}
    settings.posting.enabled = False

    async def handle() -> Any:
        memories = ResourceMemories()
        raw = cast("kopf.RawBody", body)
        memory = await memories.recall(raw, noticed_by_listing=listed, memobase=None)
        arguments = {
            "lifecycle": kopf.lifecycles.all_at_once,
            "indexers": OperatorIndexers(),
            "registry": registry,
            "settings": settings,
            "resource": resource,
            "raw_event": event,
            "body": seen,
            "patch": patch,
            "memory": memory,
            "local_logger": logger,
            "event_logger": logger,
            "stream_pressure": None,
            "operator_paused": None,
            "consistency_time": None,
        }
        known = inspect.signature(process_resource_causes).parameters
        process = cast("Any", process_resource_causes)
        delays, _ = await process(**{key: arguments[key] for key in arguments if key in known})
        if patch and type != "DELETED":  # what Kopf does before it sends anything
            settings.persistence.progress_storage.touch(body=seen, patch=patch, value=None)
        return list(delays), patch.as_json_patch(raw)

    delays, operations = asyncio.run(handle())
    return Outcome(body, patch, delays, operations)


class CycledOperator:
    """An operator whose cycles a test calls one by one, and what its handlers were called for."""

    def __init__(self) -> None:
        self.registry = kopf.OperatorRegistry()
        self.settings = kopf.OperatorSettings()
        self.calls = list[Any]()

    def start(self) -> None:
        """What has to be done before the first cycle, and once."""

    def cycle(self, body: Body, **options: Any) -> Outcome:
        self.start()
        return cycle(self.registry, self.settings, body, **options)

    def step(self, body: Body) -> Body:
        """The object after one cycle, with a new version if anything has changed."""
        return self.cycle(body).stored()

    def settle(self, body: Body, *, cycles: int = 10) -> Body:
        """The object after as many cycles as it takes until nothing is sent any more."""
        for _ in range(cycles):
            outcome = self.cycle(body)
            if not outcome.patch:
                return body
            body = outcome.stored()
            if "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
                return body
        raise AssertionError(f"not settled within {cycles} cycles: {outcome.patch}")


def start(
    registry: kopf.OperatorRegistry,
    settings: kopf.OperatorSettings | None = None,
    *,
    activity: Activity = Activity.STARTUP,
) -> kopf.OperatorSettings:
    """The startup of an operator, as Kopf does it, or another of its activities."""
    settings = settings or kopf.OperatorSettings()
    asyncio.run(
        run_activity(
            lifecycle=cast("Any", kopf.lifecycles.all_at_once),
            registry=registry,
            settings=settings,
            activity=activity,
            indices=OperatorIndexers().indices,
            memo=cast("Any", kopf.Memo()),
        )
    )
    return settings


def after(body: Body, patch: kopf.Patch) -> Body:
    operations = patch.as_json_patch(cast("kopf.RawBody", body))
    return cast("Body", jsonpatch.apply_patch(body, operations))


def finalizers_of(body: Body) -> list[str]:
    return list(body["metadata"].get("finalizers") or [])
