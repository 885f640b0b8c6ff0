"""The API server inside the process: how it is started, reached over HTTP, and looked into."""

import asyncio
import contextlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import kopf
import pytest
from aiohttp import web

from ._definitions import custom_resource_definition
from ._refusals import ApiError, Body, refusal
from ._requests import Request
from ._store import Store
from ._watches import Watch

_T = TypeVar("_T")
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True)
class LoggedRequest:
    """A request that has come over HTTP and was answered.

    Attributes:
        method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
        path: The path without the query.
        content_type: What the body was said to be; empty if there was none.
        status: The status of the answer.

    Example:
        >>> from kopf_finalizers.testing import LoggedRequest
        >>> LoggedRequest("GET", "/api/v1/namespaces", content_type="", status=200).path
        '/api/v1/namespaces'
    """

    method: str
    path: str
    content_type: str
    status: int


class ApiServer:
    """An API server for tests, in a thread of its own, on a free port of 127.0.0.1.

    A context manager: the server is up from entering it until leaving it. Then open watches are
    closed, the thread has ended, and what was stored is gone. It can be used from any thread, from
    asynchronous code, and by other processes. It begins with the namespaces `default` and
    `kube-system` and no custom resources.

    Raises:
        RuntimeError: It is entered twice, or used when it is not up.

    Example:
        >>> from kopf_finalizers.testing import ApiServer
        >>> with ApiServer() as server:
        ...     server.define("mygroup", "v1", "myresources", kind="MyResource")
        ...     body = {
        ...         "apiVersion": "mygroup/v1",
        ...         "kind": "MyResource",
        ...         "metadata": {"name": "a"},
        ...     }
        ...     path = "/apis/mygroup/v1/namespaces/default/myresources"
        ...     server.call("POST", path, body)["metadata"]["generation"]
        1
    """

    def __init__(self) -> None:
        self._store = Store()
        self._requests: list[LoggedRequest] = []
        self._watchers: set[asyncio.Event] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._url: str | None = None
        self._kubeconfig: Path | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("An ApiServer cannot be started again: make another one.")
        started: Future[tuple[asyncio.AbstractEventLoop, int]] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="api-server")
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="api-server-"))
            self._thread.start()
            stack.callback(self._thread.join)
            self._loop, port = started.result()
            stack.callback(self._loop.call_soon_threadsafe, self._stop.set)
            self._url = f"http://127.0.0.1:{port}"
            self._kubeconfig = Path(folder) / "kubeconfig"
            self._kubeconfig.write_text(json.dumps(_kubeconfig(self._url)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop = None
        self._stack.close()

    @property
    def url(self) -> str:
        """Where the server is, such as `http://127.0.0.1:41234`.

        Example:
            >>> from kopf_finalizers.testing import ApiServer
            >>> with ApiServer() as server:
            ...     print(server.url.rpartition(":")[0])
            http://127.0.0.1
        """
        return _started(self._url)

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig file that leads to this server; it is removed when the server stops.

        Example:
            >>> from kopf_finalizers.testing import ApiServer
            >>> with ApiServer() as server:
            ...     print(server.kubeconfig.name)
            kubeconfig
        """
        return _started(self._kubeconfig)

    @property
    def requests(self) -> list[LoggedRequest]:
        """What was asked over HTTP so far, in the order of the answers.

        A watch is there from its start. What `call` and `define` ask is not, so that a test can
        tell what an operator has sent: nothing, say.

        Example:
            >>> from kopf_finalizers.testing import ApiServer
            >>> with ApiServer() as server:
            ...     _ = server.call("GET", "/api/v1/namespaces")
            ...     print([one.path for one in server.requests if one.method == "PATCH"])
            []
        """
        return list(self._requests)

    def connection_info(self) -> kopf.ConnectionInfo:
        """The credentials for an operator inside the process.

        Example:
            >>> import kopf
            >>> from kopf_finalizers.testing import ApiServer
            >>> registry = kopf.OperatorRegistry()
            >>> server = ApiServer()
            >>> @kopf.on.login(registry=registry)
            ... def login(**_):
            ...     return server.connection_info()
        """
        return kopf.ConnectionInfo(server=self.url, default_namespace="default")

    def define(
        self,
        group: str,
        version: str,
        plural: str,
        *,
        kind: str | None = None,
        namespaced: bool = True,
        status: bool = True,
        singular: str | None = None,
        short_names: Sequence[str] = (),
        categories: Sequence[str] = (),
        schema: Mapping[str, Any] | None = None,
        other_versions: Sequence[str] = (),
    ) -> None:
        """Create a custom resource definition; the resource is served when this returns.

        Args:
            group: The API group, such as `mycompany.com`.
            version: The version that is stored, such as `v1`.
            plural: The plural name, such as `myresources`.
            kind: The kind; by default made of the plural name: `Myresource`.
            namespaced: Whether its objects are in namespaces, or belong to the whole cluster.
            status: Whether the status is a subresource, which only `…/status` changes.
            singular: The singular name; by default the kind in lower case.
            short_names: What else it may be called, as in `kubectl get` and `kopf.on.create("db")`.
            categories: The groups of resources that it belongs to, such as `all`.
            schema: The structural schema of its objects; by default all fields are kept.
            other_versions: The versions that are served beside, with the same schema: all have the
                same objects, and only `apiVersion` differs.

        A definition that was read from a file is created by `call("POST", …)` on the collection
        `/apis/apiextensions.k8s.io/v1/customresourcedefinitions`, and a definition that is there is
        changed by `PATCH`, as with kubectl: a stricter schema, say, or a version that is no longer
        served. It counts from the next request on, and open watches of its resource end.

        Raises:
            ApiError: There is such a definition already, or it is not a good one.

        Example:
            >>> from kopf_finalizers.testing import ApiServer
            >>> with ApiServer() as server:
            ...     server.define("mycompany.com", "v1", "databases", kind="Database")
            ...     server.call("GET", "/apis/mycompany.com/v1/databases")["items"]
            []
        """
        definition = custom_resource_definition(
            group,
            version,
            plural,
            kind=kind,
            namespaced=namespaced,
            status=status,
            singular=singular,
            short_names=short_names,
            categories=categories,
            schema=schema,
            other_versions=other_versions,
        )
        self.call("POST", _CRDS, definition)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
    ) -> Any:
        """Ask the server as if over HTTP, but without: for tests that need no client.

        Args:
            method: `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
            path: The path, with the query if there is one.
            body: What to send, as plain data.
            content_type: What the body is: for patches `application/merge-patch+json`,
                `application/json-patch+json` or `application/apply-patch+yaml`.

        Returns:
            The answer as plain data, which is the caller's own.

        Raises:
            ApiError: The server refuses it.

        Example:
            >>> from kopf_finalizers.testing import ApiError, ApiServer
            >>> with ApiServer() as server:
            ...     try:
            ...         server.call("GET", "/api/v1/namespaces/nowhere")
            ...     except ApiError as error:
            ...         print(error.status, error.message)
            404 namespaces "nowhere" not found
        """
        parts = urlsplit(path)
        request = Request(
            method=method.upper(),
            path=unquote(parts.path),
            body=b"" if body is None else json.dumps(body).encode(),
            content_type=content_type,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            user_agent="kopf-finalizers",
        )
        if request.is_watch:
            raise refusal(400, "BadRequest", "a watch is for clients that speak HTTP")
        # All that happens to the store happens in the thread of the server: no locks.
        loop = _started(self._loop)
        _, answer = asyncio.run_coroutine_threadsafe(self._handle(request), loop).result()
        return json.loads(json.dumps(answer))

    def forget_history(self) -> None:
        """Forget what objects were like before, as a real server does after some minutes.

        A `continue` token or a watch that begins in the past is then answered with 410, and the
        client has to look anew: to test that it does.

        Example:
            >>> from kopf_finalizers.testing import ApiError, ApiServer
            >>> with ApiServer() as server:
            ...     page = server.call("GET", "/api/v1/namespaces?limit=1")
            ...     server.forget_history()
            ...     token = page["metadata"]["continue"]
            ...     _ = server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}})
            ...     server.forget_history()
            ...     try:
            ...         server.call("GET", f"/api/v1/namespaces?limit=1&continue={token}")
            ...     except ApiError as error:
            ...         print(error.status, error.body["reason"])
            410 Expired
        """

        async def forget() -> None:
            self._store.forget_history()

        asyncio.run_coroutine_threadsafe(forget(), _started(self._loop)).result()

    async def _handle(self, request: Request) -> tuple[int, Body]:
        answer = self._store.handle(request)
        for wake in self._watchers:
            wake.set()
        return answer

    # What follows runs in the thread of the server.

    def _run(self, started: "Future[tuple[asyncio.AbstractEventLoop, int]]") -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: "Future[tuple[asyncio.AbstractEventLoop, int]]") -> None:
        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/{path:.*}", self._answer)
        # A watcher that hangs up is gone at once, not at the next change.
        runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=1
        )
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        except BaseException as error:  # it is raised where the server is wanted
            started.set_exception(error)
        else:
            started.set_result((asyncio.get_running_loop(), runner.addresses[0][1]))
            await self._stop.wait()
        for wake in self._watchers:
            wake.set()
        await runner.cleanup()

    async def _answer(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(
            method=incoming.method,
            path=incoming.path,
            body=await incoming.read(),
            content_type=incoming.headers.get("Content-Type", ""),
            query=dict(incoming.query),
            user_agent=incoming.headers.get("User-Agent", "unknown"),
            accept=incoming.headers.get("Accept", ""),
        )
        try:
            watch = self._store.watch(request)
            seconds = _seconds(request.query.get("timeoutSeconds"))
            status, answer = (200, {}) if watch else await self._handle(request)
        except ApiError as error:
            watch, status, answer = None, error.status, error.body
        content_type = request.content_type if request.body else ""
        self._requests.append(LoggedRequest(request.method, request.path, content_type, status))
        if watch:
            return await self._stream(incoming, watch, seconds)
        if not answer:
            return web.Response(text="404 page not found\n", status=status)
        return web.json_response(answer, status=status)

    async def _a_second(self) -> None:
        """The real server closes a watch that late, when the others have seen the definition."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), 1)

    async def _stream(
        self, incoming: web.Request, watch: Watch, seconds: float | None
    ) -> web.StreamResponse:
        """Send what changes, a line for each, until somebody has enough of it."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(incoming)
        wake = asyncio.Event()
        self._watchers.add(wake)
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(seconds):
                    while not self._stop.is_set():
                        wake.clear()
                        for event in watch.news():
                            await response.write(json.dumps(event).encode() + b"\n")
                        if watch.is_over:
                            await self._a_second()
                            break
                        await wake.wait()
        finally:
            self._watchers.discard(wake)
        return response


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    """An `ApiServer` for one test.

    Example:
        >>> def test_nothing_is_sent_for_nothing(api_server):
        ...     assert api_server.requests == []
    """
    with ApiServer() as server:
        yield server


def _started(value: _T | None) -> _T:
    if value is None:
        raise RuntimeError("The ApiServer is not up: use it in a with statement.")
    return value


def _seconds(text: str | None) -> float | None:
    try:
        return float(int(text or 0)) or None
    except ValueError:
        raise refusal(400, "BadRequest", f"timeoutSeconds: {text}: invalid syntax") from None


def _kubeconfig(url: str) -> Body:
    context = {"cluster": "test", "user": "test", "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "contexts": [{"name": "test", "context": context}],
        "users": [{"name": "test", "user": {}}],
    }
