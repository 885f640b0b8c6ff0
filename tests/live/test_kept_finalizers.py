"""Finalizers of the wild from which no identity follows, kept by an operator that is adopted."""

import functools
import json

import kopf
import pytest

from ..support.operators import Operator, running
from ..support.servers import Api, Resource, Server, wait_until


@pytest.mark.parametrize(
    "kept", ["kubernetes.dask.org", "example.com/op.finalizer", "mtls-operator/finalizer"]
)
def test_an_operator_keeps_a_finalizer_that_it_could_not_derive(
    server: Server, api: Api, resource: Resource, kept: str
) -> None:
    """It stays on old and new objects, beside dedicated ones, and nothing is called twice."""
    calls = list[tuple[str, str]]()

    def register(registry: kopf.OperatorRegistry) -> kopf.OperatorRegistry:
        things = (resource.group, resource.version, resource.plural)
        for kind in ("create", "delete"):

            def handler(name: str, kind: str = kind, **_: object) -> None:
                calls.append((kind, name))

            getattr(kopf.on, kind)(*things, id=kind, registry=registry)(handler)
        return registry

    def annotations(name: str) -> dict[str, str]:
        body = api.get(resource.path_to(name)).json()
        return dict(body["metadata"].get("annotations", {}))

    def state(name: str, prefix: str) -> object:
        found = annotations(name).get(f"{prefix}/last-handled-configuration", "null")
        return json.loads(found)

    def carries(name: str, *names: str) -> bool:
        metadata = api.get(resource.path_to(name)).json()["metadata"]
        return sorted(metadata.get("finalizers", [])) == sorted(names)

    def is_gone(name: str) -> bool:
        return api.get(resource.path_to(name)).status_code == 404

    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = kept
    with running(register(kopf.OperatorRegistry()), server, resource, settings=settings):
        api.create(resource.path, resource.body("old")).raise_for_status()
        wait_until(lambda: state("old", "kopf.zalando.org") is not None)
    operator = Operator(
        resource, keep_finalizer=kept, former_storage_prefix="kopf.zalando.org", strict=True
    )
    backups = "mycompany.com/db-operator.backups"
    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))
    with running(register(operator.registry), server, resource):
        api.create(resource.path, resource.body("new")).raise_for_status()
        for name in ("old", "new"):
            wait_until(functools.partial(carries, name, kept, backups))
            wait_until(lambda name=name: state(name, "db-operator.mycompany.com") is not None)  # type: ignore[misc]
            api.delete(resource.path_to(name)).raise_for_status()
            wait_until(functools.partial(is_gone, name))
    assert operator.called("backups") == 2
    assert sorted(calls) == [
        (kind, name) for kind in ("create", "delete") for name in ("new", "old")
    ]
