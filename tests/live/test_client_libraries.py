"""The examples of docs/clients.md, each with its client, on a real API server."""

import ast
import asyncio
import contextlib
import gc
import http.server
import inspect
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kopf_finalizers import ensure_finalizer, release_finalizer
from kopf_finalizers._clients.calls import status_of, words_of

from ..support.servers import Api, Body, KubeApiServer, Resource, client_of

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
OURS = "mycompany.com/db-operator"
THEIRS = "other.org/f"
KIND = Resource("mycompany.com", "v1", "databases", "Database")

pytestmark = [
    # The servers of tests have certificates that nobody has signed.
    pytest.mark.filterwarnings("ignore:Unverified HTTPS request"),
    # kr8s supports newer servers than the one that is tested on, and closes no connection.
    pytest.mark.filterwarnings("ignore:Kubernetes version v1:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # What the clients do to their own dependencies is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

Given = tuple[Any, ...]


def blocks() -> dict[str, str]:
    """The Python blocks of the page by what is written after the language."""
    pattern = re.compile(r"^```python ?([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for names, code in pattern.findall(PAGE.read_text()):
        for name in [names] if "apply" in names else names.split() or [""]:
            found[name] = found.get(name, "") + code
    return found


def run(code: str, namespace: dict[str, Any]) -> Any:
    """Run a block; what is awaited in it is to be awaited by the caller."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return eval(compile(code, PAGE, "exec", flags=flags), namespace)


# How to get what an example begins with, from a kubeconfig: as each client's own pages say.


@contextlib.asynccontextmanager
async def kubernetes(server: KubeApiServer, name: str) -> AsyncIterator[Given]:
    config = pytest.importorskip("kubernetes.config")
    client = pytest.importorskip("kubernetes.client")
    config.load_kube_config(str(server.kubeconfig))
    with client.ApiClient() as connection:
        yield client.CustomObjectsApi(connection), KIND.namespace, name


@contextlib.asynccontextmanager
async def kubernetes_asyncio(server: KubeApiServer, name: str) -> AsyncIterator[Given]:
    config = pytest.importorskip("kubernetes_asyncio.config")
    client = pytest.importorskip("kubernetes_asyncio.client")
    await config.load_kube_config(str(server.kubeconfig))
    async with client.ApiClient() as connection:
        yield client.CustomObjectsApi(connection), KIND.namespace, name


@contextlib.asynccontextmanager
async def kr8s(server: KubeApiServer, name: str) -> AsyncIterator[Given]:
    kr8s = pytest.importorskip("kr8s")
    api = await kr8s.asyncio.api(kubeconfig=str(server.kubeconfig))
    kind = kr8s.asyncio.objects.new_class(
        KIND.kind, KIND.api_version, asyncio=True, namespaced=True
    )
    try:
        yield (await kind({"metadata": {"name": name, "namespace": KIND.namespace}}, api=api),)
    finally:
        await api._session.aclose()  # kr8s itself never ends its connections


@contextlib.asynccontextmanager
async def lightkube(server: KubeApiServer, name: str) -> AsyncIterator[Given]:
    lightkube = pytest.importorskip("lightkube")
    generic = pytest.importorskip("lightkube.generic_resource")
    kind = generic.create_namespaced_resource(KIND.group, KIND.version, KIND.kind, KIND.plural)
    config = lightkube.KubeConfig.from_file(str(server.kubeconfig))
    yield lightkube.Client(config=config), kind, KIND.namespace, name


@contextlib.asynccontextmanager
async def pykube(server: KubeApiServer, name: str) -> AsyncIterator[Given]:
    pykube = pytest.importorskip("pykube")
    api = pykube.HTTPClient(pykube.KubeConfig.from_file(str(server.kubeconfig)))
    kind = pykube.object_factory(api, KIND.api_version, KIND.kind)
    with api.session:
        yield (kind(api, {"metadata": {"name": name, "namespace": KIND.namespace}}),)


@contextlib.asynccontextmanager
async def aiohttp(server: KubeApiServer, name: str) -> AsyncIterator[Given]:
    aiohttp = pytest.importorskip("aiohttp")
    headers = {"Authorization": f"Bearer {server.token}"}
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as session:
        yield session, KIND.path_to(name)


CLIENTS: dict[str, Callable[[KubeApiServer, str], Any]] = {
    function.__name__: function
    for function in (kubernetes, kubernetes_asyncio, kr8s, lightkube, pykube, aiohttp)
}
NEEDED = {"lightkube": "from lightkube.types import PatchType", "aiohttp": "import aiohttp"}


class Example:
    """The functions of one example, for one object, and the object as others see it."""

    def __init__(self, client: str, given: Given, api: Api, name: str) -> None:
        self.api, self.path = api, KIND.path_to(name)
        self.namespace: dict[str, Any] = {}
        found = blocks()
        run(found[""], self.namespace)
        run(NEEDED.get(client, ""), self.namespace)
        run(found[client], self.namespace)
        self.read, self.patch, self.apply = self.namespace["calls"](*given)
        self.namespace |= {"read": self.read, "patch": self.patch, "apply": self.apply}

    async def usage(self, sort: str) -> str:
        """Run the lines of the page that use such functions."""
        asynchronous = client_is_asynchronous(self.patch, self.read)
        code = blocks()[f"{'asynchronous' if asynchronous else 'plain'}{sort}"]
        await settled(run(code, self.namespace))
        return str(self.namespace["outcome"])

    @property
    def finalizers(self) -> list[str]:
        body = self.api.get(self.path).raise_for_status().json()
        finalizers: list[str] = body["metadata"].get("finalizers", [])
        return finalizers


def client_is_asynchronous(*functions: Callable[..., Any]) -> bool:
    for function in functions:
        if inspect.iscoroutinefunction(function):
            return True
    waiting = functions[-1]()
    if inspect.iscoroutine(waiting):
        waiting.close()
        return True
    return False


async def settled(result: Any) -> Any:
    return await result if isinstance(result, Awaitable) else result


@pytest.fixture(scope="module")
def databases(real_server: KubeApiServer, real_databases: Resource) -> Iterator[Api]:
    """The kind of the examples, on a real API server."""
    assert real_databases == KIND
    with contextlib.closing(client_of(real_server)) as api:
        yield api


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    pytest.importorskip(name, reason=f"{name} is not installed: its example was not run")
    yield name
    # Here, and not in somebody else's test.
    gc.collect()


def test_every_example_is_run() -> None:
    """All examples of the page are run here, and each is short enough to be read at a glance."""
    names = set(blocks()) - {""}
    usage = {"plain", "asynchronous", "plain apply", "asynchronous apply"}
    assert names == {*CLIENTS, *usage}
    assert all(len(blocks()[name].splitlines()) <= 11 for name in names)


def test_life_of_a_finalizer(client: str, real_server: KubeApiServer, databases: Api) -> None:
    """The example of each client brings a finalizer on and off, and tells what has become of it."""
    name = f"life-{client.replace('_', '-')}"

    async def main() -> None:
        created = databases.create(KIND.path, KIND.body(name, finalizers=[THEIRS]))
        body: Body = created.raise_for_status().json()
        async with CLIENTS[client](real_server, name) as given:
            example = Example(client, given, databases, name)
            read, patch, apply = example.read, example.patch, example.apply
            by_patch: dict[str, Any] = {"read": read, "patch": patch}
            by_apply: dict[str, Any] = {"body": body, "apply": apply}
            example.namespace["body"] = body

            assert await example.usage("") == "added"
            assert example.finalizers == [THEIRS, OURS]
            assert await settled(ensure_finalizer(OURS, **by_patch)) == "already there"
            assert await settled(release_finalizer(OURS, **by_patch)) == "released"
            assert await settled(release_finalizer(OURS, **by_patch)) == "not there"

            assert await example.usage(" apply") == "released"
            assert example.finalizers == [THEIRS]
            assert await settled(ensure_finalizer(OURS, **by_patch)) == "added"
            both = by_apply | by_patch
            assert await settled(release_finalizer(OURS, **both)) == "released"
            assert await settled(ensure_finalizer(OURS, **by_apply)) == "added"

            databases.delete(KIND.path_to(name)).raise_for_status()
            assert await settled(ensure_finalizer(f"{OURS}.a", **by_patch)) == "being deleted"
            assert await settled(ensure_finalizer(f"{OURS}.a", **by_apply)) == "being deleted"
            assert await settled(release_finalizer(OURS, **by_apply)) == "released"
            databases.merge_patch(KIND.path_to(name), {"metadata": {"finalizers": None}})
            for how in (by_patch, by_apply, both):
                assert await settled(ensure_finalizer(OURS, **how)) == "gone"
                assert await settled(release_finalizer(OURS, **how)) == "gone"

            databases.create(KIND.path, KIND.body(name, finalizers=[THEIRS])).raise_for_status()
            for how in (by_patch | {"body": body}, by_apply, both):
                assert await settled(ensure_finalizer(OURS, **how)) == "gone"
            assert example.finalizers == [THEIRS]

    asyncio.run(main())


def test_races_and_refusals(client: str, real_server: KubeApiServer, databases: Api) -> None:
    """With each client a lost race is told from a refusal."""
    name = f"race-{client.replace('_', '-')}"

    async def main() -> None:
        body = KIND.body(name, finalizers=[OURS])
        databases.create(KIND.path, body).raise_for_status()
        async with CLIENTS[client](real_server, name) as given:
            example = Example(client, given, databases, name)
            sent: list[Any] = []

            async def read() -> Any:
                return await settled(example.read())

            async def raced(operations: list[Body]) -> Any:
                sent.append(operations)
                if len(sent) == 1:
                    others = {"metadata": {"finalizers": [THEIRS, OURS]}}
                    databases.merge_patch(KIND.path_to(name), others).raise_for_status()
                return await settled(example.patch(operations))

            how: dict[str, Any] = {"read": read, "patch": raced, "backoff": 0}
            assert await release_finalizer(OURS, **how) == "released"
            assert len(sent) == 2
            assert example.finalizers == [THEIRS]

            async def nonsense(_: list[Body]) -> Any:
                sent.append(_)
                return await settled(example.patch([{"op": "test", "path": "/a", "value": 1}]))

            sent.clear()
            with pytest.raises(Exception, match=r"422|the server rejected") as caught:
                await ensure_finalizer(OURS, **how | {"patch": nonsense})
            assert status_of(caught.value) == 422
            assert "the server rejected our request" in words_of(caught.value)
            assert len(sent) == 1

    asyncio.run(main())


class Busy(http.server.BaseHTTPRequestHandler):
    """An API server that refuses all writes as one that is busy does."""

    def do_PATCH(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        # What kube-apiserver says when there are too many requests is no JSON.
        self._answer(429, "text/plain; charset=utf-8", "Too many requests, please try again later.")

    def _answer(self, status: int, kind: str, content: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        """Nothing is to be printed."""


@pytest.mark.parametrize("way", ["patch", "apply"])
@pytest.mark.parametrize("change", [ensure_finalizer, release_finalizer])
def test_an_answer_that_is_no_json_ends_with_lightkubes_error(
    way: str, change: Callable[..., Any]
) -> None:
    """It is an exception from lightkube that is its own cause: it is raised, and at once."""
    lightkube = pytest.importorskip("lightkube")
    generic = pytest.importorskip("lightkube.generic_resource")
    models = pytest.importorskip("lightkube.config.models")
    patches = pytest.importorskip("lightkube.types").PatchType
    kind = generic.create_namespaced_resource(KIND.group, KIND.version, KIND.kind, KIND.plural)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            config = lightkube.KubeConfig.from_one(
                cluster=models.Cluster(server=f"http://127.0.0.1:{server.server_port}"),
                user=models.User(token="any"),
            )
            client = lightkube.Client(config=config)
            body = KIND.body("one", uid="1-2", finalizers=[OURS])
            of_it = {"name": "one", "namespace": KIND.namespace}

            def read() -> Body:
                return body if change is release_finalizer else KIND.body("one", uid="1-2")

            def patch(operations: list[Body]) -> Any:
                return client.patch(kind, obj=operations, patch_type=patches.JSON, **of_it)

            def apply(manifest: Body, manager: str) -> Any:
                how = {"patch_type": patches.APPLY, "field_manager": manager, "force": True}
                return client.patch(kind, obj=manifest, **of_it, **how)

            options: dict[str, Any] = {"read": read, "patch": patch}
            if way == "apply":
                options = {"body": body, "apply": apply}
            with pytest.raises(Exception, match="429") as caught:
                change(OURS, **options)
            assert status_of(caught.value) == 429
            assert caught.value.__cause__ is caught.value
        finally:
            server.shutdown()
            serving.join()
