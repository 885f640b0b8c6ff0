"""What dedicated finalizers cost, counted at the API server."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import kopf
import pytest

from kopf_finalizers.testing import ApiServer

from ..support.operators import Operator, running
from ..support.servers import Api, Resource, client_of, wait_until


@pytest.fixture
def resource(api_server: ApiServer) -> Resource:
    api_server.define("example.com", "v1", "things", kind="Thing")
    return Resource("example.com", "v1", "things", "Thing")


@pytest.fixture
def api(api_server: ApiServer) -> Iterator[Api]:
    with contextlib.closing(client_of(api_server)) as api:
        yield api


def patches(server: ApiServer) -> int:
    return sum(1 for request in server.requests if request.method == "PATCH")


def lifecycle(
    server: ApiServer, api: Api, resource: Resource, *purposes: str | None
) -> tuple[int, int]:
    """PATCH requests until an object is handled, and from its deletion until it is gone."""
    operator = Operator(resource)
    operator.on.create(*operator.resource)(operator.noting("create"))
    for number, purpose in enumerate(purposes):
        options: dict[str, Any] = {} if purpose is None else {"finalizer": purpose}
        operator.on.delete(*operator.resource, id=f"delete-{number}", **options)(
            operator.noting("delete")
        )
    return counted(server, api, resource, operator)


def counted(server: ApiServer, api: Api, resource: Resource, operator: Operator) -> tuple[int, int]:
    with api.watching(resource.path) as seen, running(operator.registry, server, resource):
        start = patches(server)
        api.create(resource.path, resource.body("one")).raise_for_status()
        seen.wait_until(lambda _: "last-handled" in str(seen.of("one")))
        handled = patches(server)
        api.delete(resource.path_to("one")).raise_for_status()
        seen.wait_for("DELETED", "one")
        return handled - start, patches(server) - handled


def test_a_dedicated_finalizer_costs_no_request(
    api_server: ApiServer, api: Api, resource: Resource
) -> None:
    """It comes and goes in the requests that Kopf makes for its own."""
    assert lifecycle(api_server, api, resource, None) == (2, 1)
    assert lifecycle(api_server, api, resource, "backups") == (2, 1)


def test_each_of_several_finalizers_leaves_in_the_request_that_keeps_the_progress(
    api_server: ApiServer, api: Api, resource: Resource
) -> None:
    """Three cleanups are three requests: fewer than Kopf makes for the same handlers."""
    created, deleted = lifecycle(api_server, api, resource, "backups", "dns", "users")
    assert (created, deleted) == (2, 3)
    assert deleted <= lifecycle(api_server, api, resource, None, None, None)[1]


def test_an_empty_cleanup_costs_no_request_where_changes_are_handled(
    api_server: ApiServer, api: Api, resource: Resource
) -> None:
    """The operator's own finalizer comes and goes with the dedicated one."""
    costs = list[tuple[int, int]]()
    for cleanups in (0, 1):
        operator = Operator(resource)
        operator.on.create(*operator.resource, finalizer="backups")(operator.noting("create"))
        for _ in range(cleanups):
            operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("delete"))
        costs.append(counted(api_server, api, resource, operator))
    assert costs == [(2, 1), (2, 1)]


def test_an_event_of_an_object_with_all_its_finalizers_sends_nothing(
    api_server: ApiServer, api: Api, resource: Resource
) -> None:
    """A status that somebody writes costs the operator no request."""
    operator = Operator(resource)
    rounds = list[Any]()

    @operator.on.event(*operator.resource)
    def event_fn(status: kopf.Status, **_: Any) -> None:
        rounds.append(status.get("round"))

    for purpose in ("backups", "dns", "users"):
        operator.on.delete(*operator.resource, finalizer=purpose, id=purpose)(
            operator.noting("delete")
        )
    with running(operator.registry, api_server, resource):
        api.create(resource.path, resource.body("one")).raise_for_status()
        wait_until(lambda: "last-handled" in api.get(resource.path_to("one")).text)
        before = patches(api_server)
        for number in range(5):
            status = {"status": {"round": number}}
            api.merge_patch(resource.path_to("one", "status"), status).raise_for_status()
            wait_until(functools.partial(rounds.__contains__, number))
        assert patches(api_server) - before == 5
