"""An operator that has said that it only watches, and handlers that need a finalizer."""

from pathlib import Path

import kopf
import pytest

from ..support.objects import create, finalizers_now
from ..support.operators import Operator, OperatorProcess, running
from ..support.servers import Api, Resource, Server, wait_until

OPERATOR = """
import os
import kopf
import kopf_finalizers

R = os.environ["GROUP"], "v1", os.environ["PLURAL"]
kopf_finalizers.configure("mycompany.com", "viewer", finalizer=None)

@{decorator}
def nothing(**_): ...
"""


@pytest.mark.parametrize(
    ("decorator", "shown"),
    [
        ("kopf.on.delete(*R)", "on.delete nothing"),
        ("kopf.daemon(*R)", "daemon nothing"),
        ("kopf.timer(*R, interval=5)", "timer nothing"),
    ],
    ids=["delete", "daemon", "timer"],
)
def test_handlers_of_kopf_that_need_a_finalizer_are_refused(
    server: Server,
    api: Api,
    resource: Resource,
    tmp_path: Path,
    decorator: str,
    shown: str,
) -> None:
    """It does not start, names the handler, and has written no finalizer."""
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.format(decorator=decorator))
    create(api, resource)
    process = OperatorProcess(file, server, tmp_path / "log", resource=resource)
    with process:
        assert process.wait() != 0
    assert f"Kopf puts its finalizer on objects for {shown}." in process.output()
    assert finalizers_now(api, resource) == []


def test_handlers_of_kopf_that_need_none_are_called(
    server: Server, api: Api, resource: Resource
) -> None:
    """An optional cleanup and handlers of changes need no finalizer, and none is written."""
    operator = Operator(resource, finalizer=None)
    registry = operator.registry
    kopf.on.delete(*operator.resource, optional=True, registry=registry)(operator.noting("gone"))
    kopf.on.create(*operator.resource, registry=registry)(operator.noting("created"))
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("created"))
    assert finalizers_now(api, resource) == []
