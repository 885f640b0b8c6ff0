"""Patches that are refused while nothing else happens to the object: it goes all the same.

Real operators on both servers, with a proxy that refuses what a webhook, a schema or an overloaded
server would refuse.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

import kopf
import pytest

from kopf_finalizers._dedicated import sent

from ..support.objects import create, delete, finalizers_now
from ..support.operators import MAIN, Operator, running
from ..support.proxies import Proxy
from ..support.refusals import WORDS, Refusing, quick, warnings
from ..support.servers import JSON_PATCH, Api, Resource, Server, Watched, wait_until

BACKUPS = f"{MAIN}.backups"


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "PAUSES", (0.3, 0.6))


@pytest.mark.parametrize("status", [400, 403, 422, 500])
def test_an_object_whose_release_is_refused_goes_when_it_no_longer_is(
    proxy: Proxy,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has the server's words and the finalizer; nobody has to touch the object."""
    operator.on.create(*operator.resource)(operator.noting("create"))
    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))
    refusing = Refusing(status)
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        settled = wait_until(
            lambda: "last-handled" in json.dumps(api.get(resource.path_to("one")).json())
        )
        assert settled
        refusing.is_on.set()
        delete(api, resource)
        wait_until(lambda: len(warnings(caplog, WORDS)) > 1, what="the server's words")
        assert all(BACKUPS in one for one in warnings(caplog, WORDS))
        assert BACKUPS in (finalizers_now(api, resource) or [])
        refusing.is_on.clear()
        seen.wait_for("DELETED", "one", timeout=10)
    assert operator.called("backups") == 1


def test_a_release_that_alone_is_refused_is_told_in_the_servers_words(
    proxy: Proxy,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A webhook may look at finalizers alone: Kopf takes its refusal for a lost race."""
    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))
    refusing = Refusing(422, lambda asked: asked.content_type == JSON_PATCH)
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
        refusing.is_on.set()
        delete(api, resource)
        wait_until(lambda: warnings(caplog, WORDS), what="the server's words")
        assert BACKUPS in warnings(caplog, WORDS)[0]
        refusing.is_on.clear()
        seen.wait_for("DELETED", "one", timeout=10)
    assert operator.called("backups") == 1


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
    other = threading.Event()

    @operator.finalizers.on.delete(*operator.resource, finalizer="backups", id="backups")
    def backups(**kwargs: Any) -> dict[str, Any]:
        operator.noting("backups")(**kwargs)
        return {"dropped": 3}

    @operator.finalizers.on.delete(*operator.resource, finalizer="dns", id="dns")
    def dns(**kwargs: Any) -> str:
        operator.noting("dns")(**kwargs)
        if not other.is_set():
            raise kopf.TemporaryError("not yet", delay=0.1)
        return "done"

    refusing = Refusing(status, lambda asked: asked.path.endswith("/status"))
    refusing.is_on.set()
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
        delete(api, resource)
        wait_until(lambda: BACKUPS not in (finalizers_now(api, resource) or []))
        other.set()
        seen.wait_for("DELETED", "one", timeout=10)
    assert refusing.refused
    assert operator.called("backups") == 1
    assert len([call for call in operator.calls if call[0] == "dns"]) >= 2


def test_an_addition_that_is_refused_is_made_when_it_no_longer_is(
    proxy: Proxy, api: Api, resource: Resource, operator: Operator
) -> None:
    """A handler that waits for its finalizer is called, and nobody has to touch the object."""
    operator.on.create(*operator.resource, finalizer="backups")(operator.noting("create"))
    refusing = Refusing(500)
    refusing.is_on.set()
    proxy.rules.append(refusing)
    with running(operator.registry, proxy, resource, settings=quick()):
        create(api, resource)
        wait_until(lambda: len(refusing.refused) > 2)
        assert not operator.calls
        refusing.is_on.clear()
        wait_until(lambda: operator.called("create"), timeout=10)
    assert operator.calls[0] == ("create", [BACKUPS])
