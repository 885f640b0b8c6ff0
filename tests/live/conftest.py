"""An operator, a rename of it, and an independent watch of what becomes of objects."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.operators import KOPF_DEFAULT, Operator
from ..support.rollouts import Cluster, Rollout
from ..support.servers import Api, Resource, Server, Watched


@pytest.fixture
def seen(api: Api, resource: Resource) -> Iterator[Watched]:
    with api.watching(resource.path) as seen:
        yield seen


@pytest.fixture
def operator(resource: Resource) -> Operator:
    return Operator(resource)


@pytest.fixture
def rollout(server: Server, api: Api, resource: Resource) -> Rollout:
    return Rollout(server, api, resource, {"former": [KOPF_DEFAULT]})


@pytest.fixture
def cluster(server: Server, api: Api, resource: Resource, tmp_path: Path) -> Cluster:
    return Cluster(server, api, resource, tmp_path)
