"""Two releases of a rename that run at the same time, as in a Deployment's rolling update."""

import contextlib
import functools
import time
from collections import Counter
from typing import Any

import kopf
import pytest

from kopf_finalizers import _moves

from ..support.histories import history
from ..support.operators import Operator, running
from ..support.servers import Api, KubeApiServer, Resource, Server, Watched, wait_until

MAIN = "mycompany.com/db-operator"
KOPF_DEFAULT = "kopf.zalando.org/KopfFinalizerMarker"
OLD, NEW = "mycompany.com/old-backups", f"{MAIN}.backups"


def release(resource: Resource, stage: str | None, calls: list[Any]) -> kopf.OperatorRegistry:
    options: dict[str, Any] = {}
    if stage is not None:
        former = {"former": [KOPF_DEFAULT], "former_dedicated": {"backups": [OLD]}}
        options = {**former, "rollout": stage}
    operator = Operator(resource, **options)
    things = operator.resource
    operator.on.resume(*things, id="resume")(lambda **_: None)

    @operator.on.create(*things)
    def create(name: str, **_: Any) -> None:
        calls.append(("create", name))

    @operator.on.delete(*things, finalizer="backups")
    def backups(name: str, **_: Any) -> None:
        calls.append(("backups", name))

    return operator.registry


def test_two_releases_side_by_side_come_to_rest(
    server: Server, api: Api, resource: Resource
) -> None:
    """After at most four writes of an object nobody writes it; and what stays moves it to the end.

    Dedicated finalizers too; and no cleanup is lost.
    """
    silence = 10 if isinstance(server, KubeApiServer) else 2  # in seconds
    calls, names = list[Any](), [f"object-{number}" for number in range(5)]
    with running(release(resource, "recognise", calls), server, resource):
        for name in names:
            api.create(resource.path, resource.body(name)).raise_for_status()
        for name in names:
            wait_until(functools.partial(is_handled, api, resource, name))
    with api.watching(resource.path) as seen, contextlib.ExitStack() as both:
        for stage in ("recognise", "switch"):
            both.enter_context(running(release(resource, stage, calls), server, resource))
        wait_until(lambda: is_quiet(seen, silence), timeout=60, what="silence")
        for name in names:
            assert len(seen.of(name)) <= 4, history(seen, name)
    with running(release(resource, "switch", calls), server, resource):
        for name in names:
            wait_until(functools.partial(carries, api, resource, name, MAIN, NEW))
            api.delete(resource.path_to(name)).raise_for_status()
        wait_until(lambda: not api.list(resource.path))
    assert Counter(calls) == {(kind, name): 1 for kind in ("create", "backups") for name in names}


def is_handled(api: Api, resource: Resource, name: str) -> bool:
    return "last-handled-configuration" in api.get(resource.path_to(name)).text


def carries(api: Api, resource: Resource, name: str, *expected: str) -> bool:
    body = api.get(resource.path_to(name)).json()
    return sorted(body["metadata"].get("finalizers", [])) == sorted(expected)


def is_quiet(seen: Watched, seconds: float) -> bool:
    """Whether nothing happens for a while."""
    before, until = len(seen.events), time.monotonic() + seconds
    with seen.changed:
        while len(seen.events) == before and time.monotonic() < until:
            seen.changed.wait(until - time.monotonic())
        return len(seen.events) == before


def test_an_object_that_was_moved_back_is_moved_again_without_an_event(
    server: Server, api: Api, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other release has gone meanwhile, and nobody else writes the object."""
    calls = list[Any]()
    path, former = resource.path_to("one"), sorted([KOPF_DEFAULT, OLD])
    with running(release(resource, "recognise", calls), server, resource):
        api.create(resource.path, resource.body("one")).raise_for_status()
        wait_until(lambda: is_handled(api, resource, "one"))
    monkeypatch.setattr(_moves, "AGAIN", 3.0)  # seconds
    with running(release(resource, "switch", calls), server, resource):
        wait_until(lambda: carries(api, resource, "one", MAIN, NEW))
        api.merge_patch(path, {"metadata": {"finalizers": former}}).raise_for_status()
        wait_until(lambda: carries(api, resource, "one", MAIN, NEW), timeout=20)
