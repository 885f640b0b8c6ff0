"""Handlers with the library at work, on both API servers."""

import functools
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import kopf
import pytest

from ..support.histories import turnover
from ..support.objects import create, delete, finalizers_now
from ..support.operators import MAIN, Operator, running
from ..support.proxies import Asked, Fate, Proxy
from ..support.servers import Api, Resource, Server, Watched, wait_until


def test_the_finalizer_is_stored_before_any_handler_runs(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Also where the object starts to match later, when Kopf's own finalizer is there already."""
    operator.on.create(*operator.resource)(operator.noting("create"))
    operator.on.delete(*operator.resource)(operator.noting("delete"))
    operator.on.update(*operator.resource, finalizer="guard", labels={"guarded": "yes"})(
        operator.noting("update")
    )
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        api.merge_patch(
            resource.path_to("one"),
            {"metadata": {"labels": {"guarded": "yes"}}, "spec": {"size": 2}},
        ).raise_for_status()
        wait_until(lambda: operator.called("update"))
        assert operator.calls == [("create", [MAIN]), ("update", [MAIN, f"{MAIN}.guard"])]
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)


def test_a_handler_that_waited_for_its_finalizer_has_lost_no_attempt(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Waiting for the finalizer is no retry: even a handler with one attempt gets it."""

    @operator.on.create(*operator.resource, finalizer="guard", retries=1)
    def create_fn(retry: int, **_: Any) -> None:
        operator.calls.append(("create", retry))

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)
    assert operator.calls == [("create", 0)]


def test_an_object_made_again_under_the_same_name_is_handled_as_a_new_one(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """Every one of the objects gets its own creation, finalizers and cleanup."""

    @operator.on.create(*operator.resource, finalizer="backups")
    def create_fn(uid: str, body: kopf.Body, **_: Any) -> None:
        operator.calls.append(("create", uid, f"{MAIN}.backups" in body["metadata"]["finalizers"]))

    @operator.on.delete(*operator.resource, finalizer="backups")
    def cleanup(uid: str, **_: Any) -> None:
        operator.calls.append(("cleanup", uid, True))

    uids = list[str]()
    with running(operator.registry, server, resource):
        for number in range(3):
            uids.append(create(api, resource)["metadata"]["uid"])
            wait_until(functools.partial(lambda n: operator.called("create") > n, number))
            delete(api, resource)
            wait_until(lambda: finalizers_now(api, resource) is None)
    assert operator.calls == [
        call for uid in uids for call in (("create", uid, True), ("cleanup", uid, True))
    ]


def test_retries_go_on_where_an_event_handler_asks_for_a_finalizer_each_time(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Asking for a finalizer that is there already does not make Kopf forget a retry."""

    @operator.on.event(*operator.resource)
    def guard(patch: kopf.Patch, **_: Any) -> None:
        operator.finalizers.add(patch, "by-hand")

    @operator.on.create(*operator.resource)
    def create_fn(retry: int, **_: Any) -> None:
        operator.calls.append(("create", retry))
        if retry < 2:
            raise kopf.TemporaryError("busy", delay=0.2)

    @operator.on.delete(*operator.resource)
    def delete_fn(patch: kopf.Patch, **_: Any) -> None:
        operator.finalizers.remove(patch, "by-hand")

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("create") == 3, timeout=10)
        assert f"{MAIN}.by-hand" in (finalizers_now(api, resource) or [])
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)


def test_a_decorated_handler_gets_what_kopf_gives_it(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """The keyword arguments are those of Kopf's own decorators, with and without a finalizer."""
    arguments = dict[str, set[str]]()

    def noting(what: str) -> Callable[..., None]:
        def handler(**kwargs: Any) -> None:
            arguments[what] = set(kwargs)

        return handler

    with_param: dict[str, Any] = {"param": 1, "registry": operator.registry}
    for kind in ("create", "delete"):
        plain: Callable[..., Any] = getattr(kopf.on, kind)
        plain(*operator.resource, id=f"plain-{kind}", **with_param)(noting(f"plain {kind}"))
        own: Callable[..., Any] = getattr(operator.on, kind)
        own(*operator.resource, id=f"own-{kind}", **with_param)(noting(f"own {kind}"))
        own(*operator.resource, id=f"guarded-{kind}", finalizer="x", **with_param)(
            noting(f"guarded {kind}")
        )
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: len(arguments) == 3)
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)
    for kind in ("create", "delete"):
        assert arguments[f"own {kind}"] == arguments[f"plain {kind}"]
        assert arguments[f"guarded {kind}"] == arguments[f"plain {kind}"]
        assert {"body", "patch", "retry", "param", "diff"} <= arguments[f"plain {kind}"]


def test_one_function_may_be_the_cleanup_of_several_finalizers(
    server: Server, api: Api, resource: Resource, operator: Operator, seen: Watched
) -> None:
    """Stacked decorators each register the function; methods are as good as functions."""

    class Cleaner:
        @staticmethod
        def drop(**_: Any) -> None:
            operator.calls.append(("drop",))

        def release(self, **_: Any) -> None:
            operator.calls.append(("release",))

    operator.on.delete(*operator.resource, finalizer="one", id="one")(
        operator.on.delete(*operator.resource, finalizer="two", id="two")(Cleaner.drop)
    )
    operator.on.delete(*operator.resource, finalizer="three")(Cleaner().release)
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert sorted(operator.calls) == [("drop",), ("drop",), ("release",)]
    assert turnover(seen, "one") == {
        f"{MAIN}{suffix}": (1, 1) for suffix in ("", ".one", ".two", ".three")
    }


def test_a_careless_function_of_a_handler_does_not_block_the_deletion(
    server: Server, api: Api, resource: Resource, operator: Operator, seen: Watched
) -> None:
    """A function on patch.fns that adds a finalizer to an object being deleted is dropped."""

    def careless(body: kopf.RawBody) -> None:
        body["metadata"].setdefault("finalizers", []).append("careless.org/f")

    @operator.on.delete(*operator.resource, finalizer="backups")
    def cleanup(patch: kopf.Patch, retry: int, **_: Any) -> None:
        operator.calls.append(("cleanup", retry))
        if retry == 0:
            patch.fns.append(careless)
            raise kopf.TemporaryError("busy", delay=0.1)

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert operator.calls == [("cleanup", 0), ("cleanup", 1)]


@pytest.mark.skipif(
    version("kopf").startswith("1.44."), reason="Kopf 1.44 sends no function of a daemon's patch"
)
def test_what_a_daemon_adds_last_is_not_lost(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Kopf keeps what it could not send for the daemon's next call, and there is none."""

    @operator.on.daemon(*operator.resource)
    def watch(patch: kopf.Patch, **_: Any) -> None:
        operator.finalizers.add(patch, "by-hand")

    late = Fate(held=threading.Event())

    def held(asked: Asked) -> Fate | None:
        is_it = asked.method == "PATCH" and b"by-hand" in asked.body and not late.reached.is_set()
        return late if is_it else None

    with Proxy(server) as proxy, running(operator.registry, proxy, resource):
        assert late.held is not None
        proxy.rules.append(held)
        create(api, resource)
        assert late.reached.wait(30)
        api.merge_patch(resource.path_to("one"), {"metadata": {"labels": {"a": "b"}}})
        late.held.set()
        wait_until(lambda: f"{MAIN}.by-hand" in (finalizers_now(api, resource) or []), timeout=10)
        api.merge_patch(resource.path_to("one"), {"metadata": {"finalizers": [MAIN]}})
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)
