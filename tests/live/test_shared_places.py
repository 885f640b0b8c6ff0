"""Two operators that leave their records where Kopf has them by default."""

import functools
import logging

import kopf
import pytest

from ..support.operators import Operator, running
from ..support.servers import Api, Resource, Server, wait_until


@pytest.mark.parametrize("guarded", [True, False], ids=["with cleanups", "only watching"])
def test_two_operators_on_kopfs_default_storages_are_warned(
    server: Server, api: Api, resource: Resource, caplog: pytest.LogCaptureFixture, guarded: bool
) -> None:
    """Each says so when it meets an object: of the two, one may never call its `on.create`."""
    operators = [
        Operator(resource, name, storages=False, finalizer=None)
        if not guarded
        else Operator(resource, name, storages=False)
        for name in ("one", "two")
    ]
    for operator in operators:
        kopf.on.create(*operator.resource, registry=operator.registry)(operator.noting("create"))
        if guarded:
            cleanup = operator.noting("delete")
            kopf.on.delete(*operator.resource, registry=operator.registry)(cleanup)

    def told() -> int:
        said = [one for one in caplog.records if one.getMessage().endswith("[shared-place]")]
        assert all(one.levelno == logging.WARNING for one in said)
        return len(said)

    for number, operator in enumerate(operators, 1):
        with running(operator.registry, server, resource):
            if number == 1:
                api.create(resource.path, resource.body("a")).raise_for_status()
                wait_until(functools.partial(operator.called, "create"))
            wait_until(lambda number=number: told() == number)  # type: ignore[misc]
    assert [operator.called("create") for operator in operators] == [1, 0]
    if guarded:
        for operator in operators:
            with running(operator.registry, server, resource):
                api.delete(resource.path_to("a"))
                wait_until(functools.partial(operator.called, "delete"))
