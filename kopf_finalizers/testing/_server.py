"""The API server inside the process: how it is started, reached over HTTP, and looked into."""

import asyncio
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import kopf
import pytest

from ._definitions import custom_resource_definition
from ._http import HttpServer, LoggedRequest
from ._refusals import ApiError, Body, refusal
from ._requests import Request

_T = TypeVar("_T")
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


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
        self._http = HttpServer()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._url: str | None = None
        self._kubeconfig: Path | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("An ApiServer cannot be started again: make another one.")
        started: Future[tuple[asyncio.AbstractEventLoop, int]] = Future()
        self._thread = threading.Thread(target=self._http.run, args=(started,), name="api-server")
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="api-server-"))
            self._thread.start()
            stack.callback(self._thread.join)
            self._loop, port = started.result()
            stack.callback(self._loop.call_soon_threadsafe, self._http.stop.set)
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

        In a process that has imported `kubernetes` or `kubernetes_asyncio` already, name the file
        to them: they read the variable `KUBECONFIG` only then.

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
        return list(self._http.requests)

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
        _, answer = asyncio.run_coroutine_threadsafe(self._http.handle(request), loop).result()
        return json.loads(json.dumps(answer))

    def wait_for(
        self, path: str, condition: Callable[[dict[str, Any]], object], *, timeout: float = 30
    ) -> Any:
        """Wait until an object is as a test expects it.

        The object is read every few milliseconds. What it was like in between is not seen: for that
        there are watches. It blocks the thread: in asynchronous code that runs the operator, too,
        write `await asyncio.to_thread(server.wait_for, path, condition)`.

        Args:
            path: The path of the object, which need not be there yet.
            condition: Is asked about the object while it is there; what it raises is raised.
            timeout: For how many seconds to wait at most.

        Returns:
            The object for which the condition held, as plain data.

        Raises:
            TimeoutError: It did not hold in time; the message has the object as it was last.
            ApiError: The server refuses to say.

        Example:
            >>> from kopf_finalizers.testing import ApiServer
            >>> with ApiServer() as server:
            ...     path = "/api/v1/namespaces/default"
            ...     found = server.wait_for(
            ...         path, lambda body: body["status"]["phase"] == "Active"
            ...     )
            ...     found["metadata"]["name"]
            'default'
        """
        return self._wait_until(path, lambda body: body is not None and condition(body), timeout)

    def wait_until_gone(self, path: str, *, timeout: float = 30) -> None:
        """Wait until an object is not there (any more).

        Args:
            path: The path of the object.
            timeout: For how many seconds to wait at most.

        Raises:
            TimeoutError: It is still there; the message has the object as it was last.
            ApiError: The server refuses to say.

        Example:
            >>> from kopf_finalizers.testing import ApiServer
            >>> with ApiServer() as server:
            ...     path = "/api/v1/namespaces/default/configmaps"
            ...     _ = server.call("POST", path, {"metadata": {"name": "a"}})
            ...     _ = server.call("DELETE", f"{path}/a")
            ...     server.wait_until_gone(f"{path}/a")
        """
        self._wait_until(path, lambda body: body is None, timeout)

    def _wait_until(
        self, path: str, condition: Callable[[Body | None], object], timeout: float
    ) -> Body | None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                body: Body | None = self.call("GET", path)
            except ApiError as error:
                if error.status != 404:
                    raise
                body = None
            if condition(body):
                return body
            if time.monotonic() > deadline:
                last = "not there" if body is None else json.dumps(body, indent=2)
                raise TimeoutError(f"Not within {timeout} s: {path} is {last}")
            time.sleep(0.01)

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
            self._http.store.forget_history()

        asyncio.run_coroutine_threadsafe(forget(), _started(self._loop)).result()


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
