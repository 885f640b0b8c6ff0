"""The process of an operator that OPERATOR describes; it writes into NOTES what its handlers see.

It makes the file AT_WORK when it sees the first object.

A line is one write, so that nothing of it is lost or torn when the process is killed.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

import kopf_finalizers
from tests.chaos.lives.described import DOMAIN, OPERATOR, STORED, Described, Handler
from tests.support.servers import Api

GROUP, PLURAL = os.environ["GROUP"], os.environ["PLURAL"]
NOTES = os.open(os.environ["NOTES"], os.O_APPEND | os.O_WRONLY | os.O_CREAT)
# Not through what stands between the operator and the server.
SERVER = Api(os.environ["SERVER"], os.environ.get("TOKEN"))

finalizers = kopf_finalizers.configure(DOMAIN, OPERATOR)


def note(handler: Handler, what: str, uid: str, name: str, retry: int, spec: Any) -> None:
    """What a handler does, and the object on the server at that moment."""
    answer = SERVER.get(f"/apis/{GROUP}/v1/namespaces/default/{PLURAL}/{name}")
    metadata = answer.json()["metadata"] if answer.status_code == 200 else {}
    seen = metadata if metadata.get("uid") == uid else {}
    line = {
        "at": time.time(),
        "handler": handler.id,
        "what": what,
        "uid": uid,
        "retry": retry,
        "spec": dict(spec),
        "finalizers": seen.get("finalizers", []),
        "version": int(seen.get("resourceVersion", 0)),
        "is deleting": "deletionTimestamp" in seen,
    }
    os.write(NOTES, json.dumps(line).encode() + b"\n")


def doing(handler: Handler) -> Callable[..., None]:
    def fn(uid: str, name: str, spec: Any, retry: int = 0, **_: Any) -> None:
        note(handler, "called", uid, name, retry, spec)
        if retry < handler.failures and handler.kind != "event":
            raise kopf.TemporaryError("not yet", delay=0.1)
        if handler.is_given_up:
            note(handler, "given up", uid, name, retry, spec)
            raise kopf.PermanentError("never")
        note(handler, "ended", uid, name, retry, spec)

    fn.__name__ = fn.__qualname__ = handler.id
    return fn


class Thing:
    """In place of a function, a method: those of two instances are one function."""

    def __init__(self, handler: Handler) -> None:
        self.do = doing(handler)

    def handle(self, **kwargs: Any) -> None:
        self.do(**kwargs)


def by_param(param: Callable[..., None], **kwargs: Any) -> None:
    param(**kwargs)


async def watch(stopped: Any, **_: Any) -> None:
    await stopped.wait()


def is_ready(memo: Any, **_: Any) -> bool:
    return bool(memo.get("ready"))


FILTERS: dict[str, dict[str, Any]] = {
    "": {},
    "label": {"labels": {"keep": "1"}},
    "flag": {"when": lambda spec, **_: bool(spec.get("flag"))},
    "memo": {"when": is_ready},
    "change": {"when": lambda diff, **_: bool(diff)},
}


def register(handler: Handler) -> None:
    options = {"id": handler.id, **FILTERS[handler.filter]}
    if handler.ours and handler.purpose:
        options["finalizer"] = handler.purpose
    if handler.kind == "timer":
        options["interval"] = 0.5
    decorators: Any = finalizers.on
    if not handler.ours:
        decorators = kopf if handler.kind in ("daemon", "timer") else kopf.on
    fn: Any = doing(handler)
    if handler.kind == "daemon":
        fn = watch
    elif handler.made == "with param":
        fn, options["param"] = by_param, fn
    elif handler.made == "as a method":
        fn = Thing(handler).handle
    getattr(decorators, handler.kind)(GROUP, handler.version, PLURAL, **options)(fn)


@kopf.on.startup()
def hurry(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    settings.networking.error_backoffs = [0.1, 0.2]
    settings.queueing.error_delays = [0.1, 0.2, 0.5]
    settings.execution.max_workers = 8


described = Described.from_json(os.environ["OPERATOR"])
for version in sorted({STORED, *(handler.version for handler in described.handlers)}):

    @kopf.on.event(GROUP, version, PLURAL, id=f"look-{version}")
    def look(memo: Any, spec: Any, name: str, **_: Any) -> None:
        memo.ready = spec.get("ready")
        if name == "first":
            Path(os.environ["AT_WORK"]).touch()


for one in described.handlers:
    register(one)
