"""A proxy before an API server: what is refused, lost or held back on the way.

It speaks HTTP to whoever asks, and what the server wants to the server; an operator is led to it by
its kubeconfig, while tests ask the server itself.
"""

import asyncio
import contextlib
import json
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from .loops import until_disconnected
from .servers import Server, kubeconfig_of

_HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding", "content-encoding"}


@dataclass(frozen=True)
class Asked:
    """A request on its way."""

    method: str
    path: str
    content_type: str
    body: bytes
    query: str = ""


@dataclass
class Fate:
    """What becomes of a request in place of reaching the server and coming back.

    Refused with a status and words, as a webhook, a quota or an overloaded server does it; `lost`:
    done, and the connection closed before the answer; `held`: sent on when the event is set, and
    `reached` is set when it has come.
    """

    status: int = 0
    words: str = "refused on the way"
    lost: bool = False
    held: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)


Rule = Callable[[Asked], Fate | None]


class Proxy:
    """A context manager: up from entering it until leaving it.

    Rules are asked in their order, from the thread of the proxy: the first that is not None counts.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.token: str | None = getattr(server, "token", None)
        self.rules = list[Rule]()
        self.kubeconfig = Path()
        self.url = ""

    def __enter__(self) -> Self:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="proxy")
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-"))
            thread.start()
            stack.callback(thread.join)
            loop, stop, port = started.result()
            stack.callback(loop.call_soon_threadsafe, stop.set)
            self.url = f"http://127.0.0.1:{port}"
            self.kubeconfig = Path(folder, "kubeconfig")
            self.kubeconfig.write_text(kubeconfig_of(self.url, self.token or "none"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def define(self, group: str, version: str, plural: str, **options: Any) -> None:
        """As the server does it."""
        self.server.define(group, version, plural, **options)

    def forget_history(self) -> None:
        """As the server does it."""
        self.server.forget_history()

    # What follows runs in the thread of the proxy.

    async def _serve(
        self, started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]"
    ) -> None:
        stop = asyncio.Event()
        try:
            application = web.Application(client_max_size=0)
            application.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(
                application, access_log=None, handler_cancellation=True, shutdown_timeout=1
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        except BaseException as error:
            started.set_exception(error)
            return
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            started.set_result((asyncio.get_running_loop(), stop, runner.addresses[0][1]))
            await stop.wait()
            await runner.cleanup()
        await until_disconnected()

    async def _answer(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        asked = Asked(
            incoming.method,
            incoming.path,
            incoming.headers.get("Content-Type", ""),
            body,
            incoming.query_string,
        )
        fate = next((found for rule in list(self.rules) if (found := rule(asked))), None)
        if fate is not None:
            fate.reached.set()
            if fate.held is not None:
                await asyncio.to_thread(fate.held.wait, 60)
            if fate.status:
                return _refusal(fate)
        headers = {k: v for k, v in incoming.headers.items() if k.lower() not in _HOP_BY_HOP}
        url = f"{self.server.url}{incoming.raw_path}"
        try:
            async with self._session.request(
                incoming.method, url, headers=headers, data=body or None
            ) as answer:
                if fate is not None and fate.lost:
                    await answer.read()
                    return _hung_up(incoming)
                return await _passed_on(incoming, answer)
        except aiohttp.ClientError:
            return _hung_up(incoming)


async def _passed_on(incoming: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
    response = web.StreamResponse(status=answer.status, headers=headers)
    with contextlib.suppress(ConnectionError):
        await response.prepare(incoming)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    return response


def _hung_up(incoming: web.Request) -> web.Response:
    """No answer, which nobody hears any more."""
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()


def _refusal(fate: Fate) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": fate.words,
        "reason": {403: "Forbidden", 422: "Invalid"}.get(fate.status, ""),
        "code": fate.status,
    }
    return web.Response(
        status=fate.status, text=json.dumps(status), content_type="application/json"
    )
