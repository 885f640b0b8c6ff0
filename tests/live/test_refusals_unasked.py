"""Patches that are refused, of operators that have no finalizer but their own.

Real operators on both servers, with a proxy between. No filter of the library is asked about the
objects of these operators: what it knows of them it has from the storages.
"""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest

from kopf_finalizers._dedicated import sent

from ..support.objects import create, delete, finalizers_now
from ..support.operators import KOPF_DEFAULT, MAIN, Operator, running
from ..support.proxies import Asked, Fate, Proxy
from ..support.refusals import WORDS, Refusing, quick, warnings
from ..support.servers import JSON_PATCH, Api, Resource, Server, Watched, wait_until


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "PAUSES", (0.3, 0.6))


def cleanup(operator: Operator) -> None:
    kopf.on.create(*operator.resource, registry=operator.registry)(operator.noting("create"))
    kopf.on.delete(*operator.resource, registry=operator.registry)(operator.noting("ended"))


def daemon(operator: Operator) -> None:
    @kopf.on.create(*operator.resource, registry=operator.registry)
    def create_fn(**kwargs: Any) -> None:
        operator.noting("create")(**kwargs)

    @kopf.daemon(*operator.resource, registry=operator.registry, cancellation_backoff=0.1)
    async def watch(stopped: kopf.DaemonStopped, body: kopf.Body, **_: Any) -> None:
        await stopped.wait()
        operator.noting("ended")(body)


@pytest.mark.parametrize(
    ("declare", "status"),
    [(cleanup, 400), (cleanup, 403), (cleanup, 422), (cleanup, 500), (daemon, 403)],
)
def test_an_object_whose_release_is_refused_goes_when_it_no_longer_is(
    proxy: Proxy,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    status: int,
    declare: Callable[[Operator], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has the server's words and the finalizer; nobody has to touch the object."""
    declare(operator)
    refusing = Refusing(status)
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        wait_until(lambda: "last-handled" in json.dumps(api.get(resource.path_to("one")).json()))
        refusing.is_on.set()
        delete(api, resource)
        wait_until(lambda: len(warnings(caplog, WORDS)) > 1, what="the server's words")
        assert all(MAIN in one for one in warnings(caplog, WORDS))
        assert all("one]" in one for one in warnings(caplog, WORDS))
        assert MAIN in (finalizers_now(api, resource) or [])
        refusing.is_on.clear()
        seen.wait_for("DELETED", "one", timeout=10)
    assert operator.called("ended") == 1


def test_a_release_that_alone_is_refused_is_told_in_the_servers_words(
    proxy: Proxy,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A webhook may look at finalizers alone: Kopf takes its refusal for a lost race."""
    cleanup(operator)
    refusing = Refusing(422, lambda asked: asked.content_type == JSON_PATCH)
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        refusing.is_on.set()
        delete(api, resource)
        wait_until(lambda: warnings(caplog, WORDS), what="the server's words")
        assert MAIN in warnings(caplog, WORDS)[0]
        refusing.is_on.clear()
        seen.wait_for("DELETED", "one", timeout=10)
    assert operator.called("ended") == 1


@pytest.mark.parametrize("storage", ["given", "its own", "of a rename"])
def test_storages_of_all_kinds_are_enough(
    proxy: Proxy, api: Api, resource: Resource, seen: Watched, storage: str
) -> None:
    """An operator's own, prepared ones, and both places of an operator with former names."""
    settings, options = quick(), dict[str, Any]()
    if storage == "given":
        options["diffbase_storage"] = kopf.AnnotationsDiffBaseStorage(prefix="acme.example.com")
        options["progress_storage"] = kopf.StatusProgressStorage(name="acme")
    elif storage == "its own":
        options["storages"] = False
        settings.persistence.progress_storage = kopf.StatusProgressStorage(name="acme")
    else:
        options |= {"former": [KOPF_DEFAULT], "rollout": "recognise"}
    operator = Operator(resource, **options)
    cleanup(operator)
    refusing = Refusing(403)
    refusing.is_on.set()
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=settings):
        create(api, resource)
        wait_until(lambda: len(refusing.refused) > 2)
        refusing.is_on.clear()
        wait_until(lambda: operator.called("create"), timeout=10)
        wait_until(lambda: "last-handled" in api.get(resource.path_to("one")).text)
        refusing.refused.clear()
        refusing.is_on.set()
        delete(api, resource)
        wait_until(lambda: len(refusing.refused) > 2)
        refusing.is_on.clear()
        seen.wait_for("DELETED", "one", timeout=10)
    assert (operator.called("create"), operator.called("ended")) == (1, 1)


@pytest.mark.parametrize("status", [403, 422])
def test_a_status_that_is_refused_holds_up_nothing_else(
    proxy: Proxy,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    status: int,
) -> None:
    """What a cleanup has returned may not be stored; it has succeeded all the same, and once."""

    @kopf.on.delete(*operator.resource, registry=operator.registry, id="backups")
    def backups(**kwargs: Any) -> dict[str, Any]:
        operator.noting("backups")(**kwargs)
        return {"dropped": 3}

    @kopf.on.delete(*operator.resource, registry=operator.registry, id="dns")
    def dns(retry: int, **kwargs: Any) -> str:
        operator.noting("dns")(**kwargs)
        if not retry:
            raise kopf.TemporaryError("not yet", delay=0.1)
        return "done"

    refusing = Refusing(status, lambda asked: asked.path.endswith("/status"))
    refusing.is_on.set()
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
        delete(api, resource)
        seen.wait_for("DELETED", "one", timeout=10)
    assert refusing.refused
    assert (operator.called("backups"), operator.called("dns")) == (1, 2)


@pytest.mark.parametrize(
    ("status", "content_type"), [(500, None), (403, JSON_PATCH), (422, JSON_PATCH)]
)
def test_an_addition_that_is_refused_is_made_when_it_no_longer_is(
    proxy: Proxy,
    api: Api,
    resource: Resource,
    operator: Operator,
    status: int,
    content_type: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler that waits for the finalizer is called, and nobody has to touch the object."""
    cleanup(operator)
    refusing = Refusing(status, lambda asked: content_type in (None, asked.content_type))
    refusing.is_on.set()
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: warnings(caplog, WORDS), what="the server's words")
        assert MAIN in warnings(caplog, WORDS)[0]
        assert not operator.calls
        refusing.is_on.clear()
        wait_until(lambda: operator.called("create"), timeout=10)
    assert operator.calls[0] == ("create", [MAIN])


def test_an_addition_whose_answer_is_lost_keeps_no_handler_waiting(
    proxy: Proxy, api: Api, resource: Resource, operator: Operator
) -> None:
    """Kopf sends it again, and takes what it has done itself for a lost race."""
    cleanup(operator)
    lost = threading.Event()

    def lose(asked: Asked) -> Fate | None:
        if asked.content_type != JSON_PATCH or lost.is_set():
            return None
        lost.set()
        return Fate(lost=True)

    proxy.rules.append(lose)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: operator.called("create"), timeout=10)
    assert operator.calls == [("create", [MAIN])]
