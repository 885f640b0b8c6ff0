"""The library's reading of a handler's filters, compared with Kopf's own.

Handlers and objects are generated, a few hundred of them, or as many as the environment variable
`FILTER_CASES` says. Kopf is asked as it asks in a cycle: by `prematch` for handlers of changes,
since that is what decides about finalizers, and by `match` for the others.
"""

import logging
import os
import random
from collections.abc import Callable, Mapping
from typing import Any, cast

import kopf
from kopf._cogs.structs import diffs
from kopf._core.engines.indexing import OperatorIndexers
from kopf._core.intents.causes import (
    SpawningCause,
    WatchingCause,
    detect_changing_cause,
    detect_watching_cause,
)
from kopf._core.intents.registries import match, prematch

from kopf_finalizers._dedicated.filters import FILTERS, STATE_DEPENDENT, Filters, Seen

from ..support.kopf_cycles import RESOURCE
from ..support.servers import Body

CASES = int(os.environ.get("FILTER_CASES", "300"))
KINDS = [*sorted(STATE_DEPENDENT), "event", "daemon", "timer"]
FIELDS: list[Any] = [
    "spec.size",
    ("spec", "size"),
    ["spec"],
    "spec.limits.cpu",
    "status.ready",
    "metadata.labels.a",
    "metadata.annotations.a",
    ("metadata", "annotations", "db-operator.mycompany.com/x"),
    ("metadata", "annotations", "kopf.zalando.org/x"),
    "metadata.generation",
    "kind",
]
VALUES: list[Any] = [1, 2, "x", True, None, {"unit": "GB"}, {}, []]
LOGGER = logging.getLogger("tests")

# What it may ask for: of each whether it is known in the first step of a cycle, for changes.
CALLBACKS: dict[str, tuple[Callable[..., Any], bool]] = {
    "value": (lambda *args, spec, **_: (args or [spec])[0] in (1, "x"), True),
    "no value": (lambda *args, **_: not args or args[0] is None, True),
    "nothing": (lambda *_, **__: 0, True),
    "labels": (lambda *_, labels, **__: labels.get("a"), True),
    "spec": (lambda *_, body, **__: body.get("spec", {}) == {"size": 1}, True),
    "named": (lambda *_, old, **__: old is None, False),
    "named memo": (lambda *_, memo, **__: memo.ready, False),
    "taken": (lambda *_, **kwargs: kwargs["new"] and kwargs["diff"], False),
    "taken memo": (lambda *_, **kwargs: kwargs["memo"].get("ready"), False),
    "reason": (lambda *_, **kwargs: kwargs["reason"] == "create", False),
    "absent": (lambda *_, **kwargs: kwargs["old"] is None, False),
    "type": (lambda *_, **kwargs: isinstance(kwargs["old"], dict), False),
    "late": (lambda *_, labels, **kwargs: labels.get("a") == "x" and kwargs["memo"].ready, False),
}
OF_CHANGES = {"named", "taken", "reason", "absent", "type"}


class Cases:
    """Random handlers and objects; each number gives the same ones again."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)
        self.kind = self.random.choice(KINDS)
        self.asks = set[str]()
        self.ignored = self.random.choice([None, None, None, ["spec.size"]])

    def callback(self) -> Callable[..., Any]:
        known_to_all = self.kind in STATE_DEPENDENT
        names = [name for name in CALLBACKS if known_to_all or name not in OF_CHANGES]
        name = self.random.choice(names)
        self.asks.add(name)
        return CALLBACKS[name][0]

    def metadata(self) -> dict[str, Any]:
        def wanted() -> Any:
            choices = ["x", "y", kopf.PRESENT, kopf.ABSENT, self.callback()]
            return self.random.choice(choices)

        return {
            key: wanted() for key in self.random.sample(["a", "b", "c"], self.random.randint(0, 2))
        }

    def filters(self) -> dict[str, Any]:
        filters = dict[str, Any]()
        for name in ("labels", "annotations"):
            if self.random.random() < 0.4:
                filters[name] = self.metadata()
        if self.random.random() < 0.5 or self.kind == "field":
            filters["field"] = self.random.choice(FIELDS)
            if self.random.random() < 0.7:
                given = [*VALUES, kopf.PRESENT, kopf.ABSENT, self.callback(), self.callback()]
                filters["value"] = self.random.choice(given)
        if self.random.random() < 0.4:
            filters["when"] = self.callback()
        return filters

    def body(self) -> Body:
        labels = {key: self.random.choice("xyz") for key in "abc" if self.random.random() < 0.6}
        annotations = {
            key: self.random.choice("xyz")
            for key in ("a", "b", "db-operator.mycompany.com/x", "kopf.zalando.org/x")
            if self.random.random() < 0.6
        }
        body: Body = {
            "apiVersion": "example.com/v1",
            "kind": "Thing",
            "metadata": {"name": "t", "namespace": "default", "uid": "1-2", "generation": 1},
        }
        if self.random.random() < 0.8:
            body["metadata"]["labels"] = labels
        if self.random.random() < 0.8:
            body["metadata"]["annotations"] = annotations
        if self.random.random() < 0.8:
            given = {"size": self.random.choice(VALUES), "limits": {"cpu": 1}}
            body["spec"] = {key: given[key] for key in given if self.random.random() < 0.7}
        if self.random.random() < 0.5:
            body["status"] = {"ready": self.random.choice(VALUES)}
        if self.random.random() < 0.3:
            body["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
        return body


def _handled(body: Body, earlier: Body | None, diffbase: kopf.AnnotationsDiffBaseStorage) -> Body:
    """The object with what was handled last, if anything was."""
    if earlier is None:
        return body
    patch = kopf.Patch()
    seen = kopf.Body(cast("kopf.RawBody", earlier))
    essence = diffbase.build(body=seen, extra_fields=["status.ready", "metadata.generation"])
    diffbase.store(body=seen, patch=patch, essence=essence)
    annotations = {**body["metadata"].get("annotations", {}), **patch["metadata"]["annotations"]}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def answers(number: int) -> tuple[Cases, bool, bool | None]:
    """One case: what Kopf says of it, and what the library does."""
    case = Cases(number)
    registry = kopf.OperatorRegistry()
    filters = case.filters()
    getattr(kopf.on, case.kind)("things", registry=registry, **filters)(lambda **_: None)
    progress = kopf.AnnotationsProgressStorage(prefix="db-operator.mycompany.com")
    diffbase = kopf.AnnotationsDiffBaseStorage(
        prefix="db-operator.mycompany.com", ignored_fields=case.ignored
    )
    earlier = case.body() if case.random.random() < 0.6 else None
    raw = _handled(case.body(), earlier, diffbase)
    body = kopf.Body(cast("kopf.RawBody", raw))
    memo = kopf.Memo(ready=False)
    event = cast("Any", {"type": "MODIFIED", "object": raw})
    shared: dict[str, Any] = {
        "resource": RESOURCE,
        "indices": OperatorIndexers().indices,
        "logger": LOGGER,
        "patch": kopf.Patch(body=body),
        "body": body,
        "memo": memo,
    }
    asked_first = detect_watching_cause(raw_event=event, **shared)
    seen = Seen(asked_first.kwargs, progress=progress, diffbase=diffbase)
    own = Filters(case.kind, {k: v for k, v in filters.items() if k in FILTERS}).hold(seen)
    if case.kind != "event":  # those may do now what the others are asked about
        memo.ready = case.random.choice([True, False])
    return case, _kopfs(case.kind, registry, asked_first, event, shared, progress, diffbase), own


def _kopfs(
    kind: str,
    registry: kopf.OperatorRegistry,
    watching: WatchingCause,
    event: Any,
    shared: Mapping[str, Any],
    progress: kopf.ProgressStorage,
    diffbase: kopf.DiffBaseStorage,
) -> bool:
    if kind == "event":
        (handler,) = registry._watching.get_all_handlers()
        return bool(match(handler, watching))
    if kind in ("daemon", "timer"):
        (spawning,) = registry._spawning.get_all_handlers()
        return bool(match(spawning, SpawningCause(reset=False, **shared)))
    (changing,) = registry._changing.get_all_handlers()
    body = shared["body"]
    last = diffbase.fetch(body=body)
    old = None if last is None else progress.clear(essence=last)
    extra = registry._changing.get_extra_fields(RESOURCE)
    new = progress.clear(essence=diffbase.build(body=body, extra_fields=extra))
    cause = detect_changing_cause(
        finalizer="mycompany.com/db-operator",
        raw_event=event,
        old=old,
        new=new,
        diff=diffs.diff(old, new),
        initial=False,
        **shared,
    )
    return bool(prematch(changing, cause))


def test_filters_are_read_as_kopf_reads_them() -> None:
    """A yes is Kopf's yes and a no is Kopf's no; not known is what asks for what comes later."""
    found = set[bool | None]()
    for number in range(CASES):
        case, kopfs, own = answers(number)
        found.add(own)
        if own is None:
            asks_late = {name for name in case.asks if not CALLBACKS[name][1]}
            assert case.kind != "event", number
            assert asks_late, number
        else:
            assert own == kopfs, number
    assert found == {True, False, None}
