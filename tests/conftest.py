"""The servers that the tests run on, and a resource of its own for each test."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kopf_finalizers.testing import ApiServer

from .support.servers import Api, KubeApiServer, Resource, Server, client_of

pytest_plugins = ["kopf_finalizers.testing", "pytester"]

ASSETS = "KUBEBUILDER_ASSETS"
NO_ASSETS = (
    f"{ASSETS} is not set, so nothing was tested on a real kube-apiserver; to get one:"
    f" export {ASSETS}=$(setup-envtest use -p path)"
)

# A mark, and not a skip within the fixture: that would be a line in the report for every test.
_REAL = [] if os.environ.get(ASSETS) else [pytest.mark.skip(reason=NO_ASSETS)]

_numbers = itertools.count()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not os.environ.get(ASSETS):
        terminalreporter.write_line(NO_ASSETS, yellow=True)


@pytest.fixture(scope="session")
def in_process_server() -> Iterator[ApiServer]:
    """The API server of `kopf_finalizers.testing`."""
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="session")
def real_server() -> Iterator[KubeApiServer]:
    """A real kube-apiserver; tests that need it are skipped where there is none."""
    assets = os.environ.get(ASSETS)
    if not assets:
        pytest.skip(NO_ASSETS)
    with KubeApiServer(Path(assets)) as server:
        yield server


@pytest.fixture(scope="session")
def real_databases(real_server: KubeApiServer) -> Resource:
    """The custom resource of the documentation's examples, on the real server."""
    real_server.define("mycompany.com", "v1", "databases", kind="Database")
    return Resource("mycompany.com", "v1", "databases", "Database")


@pytest.fixture(scope="session", params=["in-process", pytest.param("kube-apiserver", marks=_REAL)])
def server(request: pytest.FixtureRequest) -> Server:
    """Either server: what holds on one has to hold on the other."""
    names = {"in-process": "in_process_server", "kube-apiserver": "real_server"}
    found: Server = request.getfixturevalue(names[request.param])
    return found


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """A client of the server."""
    with contextlib.closing(client_of(server)) as api:
        yield api


@pytest.fixture(scope="session")
def kind_of_object(server: Server) -> Resource:
    """A custom resource that all tests share, each in a namespace of its own."""
    server.define("example.com", "v1", "things", kind="Thing")
    return Resource("example.com", "v1", "things", "Thing")


@pytest.fixture
def resource(api: Api, kind_of_object: Resource) -> Resource:
    """A custom resource in a fresh namespace, so that tests do not see each other's objects."""
    namespace = f"test-{next(_numbers)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": namespace}}).raise_for_status()
    return kind_of_object.within(namespace)
