"""What was decided too early, with real operators: filters that ask the memo, patches held back."""

import threading
from collections.abc import Iterator
from typing import Any

import kopf
import pytest

from ..support.objects import create, delete, finalizers_now
from ..support.operators import MAIN, Operator, running
from ..support.proxies import Asked, Fate, Proxy
from ..support.servers import JSON_PATCH, MERGE_PATCH, Api, Resource, Server, Watched, wait_until

BACKUPS = f"{MAIN}.backups"


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy


@pytest.mark.parametrize("beside", ["another cleanup", "nothing"])
def test_a_removal_that_comes_late_lets_no_cleanup_go(
    proxy: Proxy, api: Api, resource: Resource, seen: Watched, operator: Operator, beside: str
) -> None:
    """A label is gone when it is decided, and back when it is sent, on an object being deleted."""
    asked = list[list[str]]()

    @operator.on.delete(*operator.resource, finalizer="backups", labels={"keep": "1"})
    def backups(**_: Any) -> None:
        asked.append(finalizers_now(api, resource) or [])

    if beside == "another cleanup":
        kopf.on.delete(*operator.resource, registry=operator.registry)(operator.noting("other"))
    fate = Fate(held=threading.Event())
    assert fate.held is not None
    holds = threading.Event()

    def hold(request: Asked) -> Fate | None:
        if holds.is_set() and request.content_type == JSON_PATCH:
            holds.clear()
            return fate
        return None

    proxy.rules.append(hold)
    path = resource.path_to("one")
    with running(operator.registry, proxy, resource):
        create(api, resource, labels={"keep": "1"})
        wait_until(lambda: BACKUPS in (finalizers_now(api, resource) or []))
        wait_until(lambda: "annotations" in api.get(path).json()["metadata"])
        holds.set()
        api.merge_patch(path, {"metadata": {"labels": {"keep": None}}}).raise_for_status()
        wait_until(fate.reached.is_set)
        api.merge_patch(path, {"metadata": {"labels": {"keep": "1"}}}).raise_for_status()
        delete(api, resource)
        fate.held.set()
        seen.wait_for("DELETED", "one", timeout=20)
    assert len(asked) == 1
    assert BACKUPS in asked[0]
    assert operator.called("other") == (beside == "another cleanup")


@pytest.mark.parametrize("held", [JSON_PATCH, MERGE_PATCH])
def test_kopfs_own_removal_that_comes_late_lets_no_cleanup_go(
    proxy: Proxy, api: Api, resource: Resource, seen: Watched, operator: Operator, held: str
) -> None:
    """Also where no handler has a dedicated finalizer, and whatever else is sent with it."""
    asked = list[list[str]]()
    labels, fate, holds = {"keep": "1"}, Fate(held=threading.Event()), threading.Event()
    assert fate.held is not None

    @kopf.on.delete(*operator.resource, registry=operator.registry, labels=labels)
    def cleanup(**_: Any) -> None:
        asked.append(finalizers_now(api, resource) or [])

    @kopf.on.event(*operator.resource, registry=operator.registry)
    def note(
        patch: kopf.Patch, labels: kopf.Labels, annotations: kopf.Annotations, **_: Any
    ) -> None:
        if held == MERGE_PATCH and not labels and "noted" not in annotations:
            patch.metadata.annotations["noted"] = "yes"

    def hold(request: Asked) -> Fate | None:
        if holds.is_set() and request.content_type == held:
            holds.clear()
            return fate
        return None

    proxy.rules.append(hold)
    path = resource.path_to("one")
    with running(operator.registry, proxy, resource):
        create(api, resource, labels=labels)
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
        wait_until(lambda: "annotations" in api.get(path).json()["metadata"])
        holds.set()
        api.merge_patch(path, {"metadata": {"labels": {"keep": None}}}).raise_for_status()
        wait_until(fate.reached.is_set)
        api.merge_patch(path, {"metadata": {"labels": {"keep": "1"}}}).raise_for_status()
        delete(api, resource)
        fate.held.set()
        seen.wait_for("DELETED", "one", timeout=20)
    assert asked == [[MAIN]]


def test_a_handler_whose_filter_asks_the_memo_is_guarded(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """Also after a restart, when the memo is empty: whenever one runs, its finalizer is there."""
    found = list[tuple[str, bool]]()

    def declare(operator: Operator) -> None:
        @kopf.on.event(*operator.resource, registry=operator.registry)
        def look(memo: kopf.Memo, spec: kopf.Spec, **_: Any) -> None:
            memo.ready = spec.get("ready", False)

        def is_ready(memo: kopf.Memo, **_: Any) -> bool:
            return bool(memo.get("ready"))

        @operator.on.create(*operator.resource, finalizer="backups", when=is_ready)
        def begin(**_: Any) -> None:
            found.append(("begin", BACKUPS in (finalizers_now(api, resource) or [])))

        @operator.on.delete(*operator.resource, finalizer="backups", when=is_ready)
        def end(retry: int, **_: Any) -> None:
            found.append(("end", BACKUPS in (finalizers_now(api, resource) or [])))
            if retry < 2:
                raise kopf.TemporaryError("again", delay=0.1)

    declare(operator)
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: BACKUPS in (finalizers_now(api, resource) or []))
        ready = {"spec": {"ready": True}}
        api.merge_patch(resource.path_to("one"), ready).raise_for_status()
        wait_until(lambda: found)
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
    delete(api, resource)
    restarted = Operator(resource)
    declare(restarted)
    with running(restarted.registry, server, resource):
        seen.wait_for("DELETED", "one", timeout=20)
    assert found == [("begin", True)] + [("end", True)] * 3


@pytest.mark.parametrize("is_prepared", [True, False], ids=["prepared", "unprepared"])
def test_a_cleanup_that_comes_with_a_later_release(
    server: Server,
    api: Api,
    resource: Resource,
    seen: Watched,
    caplog: pytest.LogCaptureFixture,
    is_prepared: bool,
) -> None:
    """It is called for what was deleted before, if an empty one was there; else a warning comes."""
    former, later = Operator(resource), Operator(resource)
    former.on.create(*former.resource, finalizer="backups")(former.noting("create"))
    if is_prepared:
        former.on.delete(*former.resource, finalizer="backups", id="drop")(former.noting("no"))
    later.on.delete(*later.resource, finalizer="backups", id="drop")(later.noting("drop"))
    with running(former.registry, server, resource):
        create(api, resource)
        wait_until(lambda: former.called("create"))
    delete(api, resource)
    with running(later.registry, server, resource):
        seen.wait_for("DELETED", "one")
    warnings = [one for one in caplog.messages if "[released-undone]" in one]
    assert (later.called("drop"), len(warnings)) == ((1, 0) if is_prepared else (0, 1))
