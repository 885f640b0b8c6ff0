"""Objects that leave what an operator has the API server select (Kopf 1.45 and newer)."""

import contextlib
from collections.abc import Iterator

import kopf
import pytest

from ..support.operators import Operator, running
from ..support.servers import Api, KubeApiServer, Resource, client_of, wait_until

pytestmark = pytest.mark.skipif(
    not hasattr(kopf.OperatorSettings().watching, "label_selectors"),
    reason="this Kopf cannot have an API server select objects",
)

THINGS = Resource("selections.example.com", "v1", "things", "Thing")


@pytest.fixture(scope="module")
def api(real_server: KubeApiServer) -> Iterator[Api]:
    real_server.define(THINGS.group, THINGS.version, THINGS.plural, kind=THINGS.kind)
    with contextlib.closing(client_of(real_server)) as api:
        yield api


def shard(name: str = "db-operator") -> Operator:
    """One process of an operator, which handles a part of the objects."""
    operator = Operator(THINGS, name)
    operator.on.create(*operator.resource)(operator.noting("create"))
    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("delete"))
    return operator


@contextlib.contextmanager
def at_work(operator: Operator, number: int, server: KubeApiServer) -> Iterator[None]:
    """Run it for the objects with its number."""
    settings = kopf.OperatorSettings()
    settings.watching.label_selectors[operator.resource] = f"shard={number}"
    with running(operator.registry, server, THINGS, settings=settings):
        yield


def finalizers_of(api: Api, name: str) -> list[str]:
    return list(api.get(THINGS.path_to(name)).json()["metadata"]["finalizers"])


def move(api: Api, name: str, number: int) -> None:
    labels = {"metadata": {"labels": {"shard": str(number)}}}
    api.merge_patch(THINGS.path_to(name), labels).raise_for_status()


def create(api: Api, name: str, operator: Operator) -> None:
    """An object of shard 0, handled."""
    api.create(THINGS.path, THINGS.body(name, labels={"shard": "0"})).raise_for_status()
    wait_until(lambda: "last-handled" in api.get(THINGS.path_to(name)).text)
    assert operator.called("create") == 1


def test_shards_with_one_identity_hand_an_object_over(api: Api, real_server: KubeApiServer) -> None:
    """An object that moves from one to the other is created once, cleaned up once, and goes."""
    first, second = shard(), shard()
    with (
        api.watching(THINGS.path) as seen,
        at_work(first, 0, real_server),
        at_work(second, 1, real_server),
    ):
        create(api, "moves", first)
        move(api, "moves", 1)
        api.delete(THINGS.path_to("moves")).raise_for_status()
        seen.wait_for("DELETED", "moves")
    assert (second.called("create"), second.called("delete")) == (0, 1)
    assert first.called("delete") == 0


def test_shards_with_a_name_each_handle_it_twice_and_leave_it_hanging(
    api: Api, real_server: KubeApiServer
) -> None:
    """So the page about names says that they need one, and the log how to release it."""
    first, second = shard("db-0"), shard("db-1")
    with at_work(first, 0, real_server), at_work(second, 1, real_server):
        create(api, "hangs", first)
        move(api, "hangs", 1)
        wait_until(lambda: second.called("create"))
        api.delete(THINGS.path_to("hangs")).raise_for_status()
        wait_until(lambda: second.called("delete"))
        left = ["mycompany.com/db-0.backups", "mycompany.com/db-0"]
        wait_until(lambda: finalizers_of(api, "hangs") == left)
        api.merge_patch(THINGS.path_to("hangs"), {"metadata": {"finalizers": None}})
