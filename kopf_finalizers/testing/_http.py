"""The API server over HTTP, in a thread of its own: all that happens to the store happens there."""

import asyncio
import contextlib
import json
from concurrent import futures
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from . import _openapi
from ._refusals import ApiError, Body, refusal
from ._requests import Request
from ._store import Store
from ._watches import Watch


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


# What is told when the server is up: its loop, and its port.
Started: TypeAlias = futures.Future[tuple[asyncio.AbstractEventLoop, int]]


class HttpServer:
    """Answers what comes over HTTP, on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self.store = Store()
        self.requests: list[LoggedRequest] = []
        self.watchers: set[asyncio.Event] = set()
        self.stop = asyncio.Event()

    async def handle(self, request: Request) -> tuple[int, Body]:
        """Answer a request, and tell all watchers that there may be news."""
        answer = self.store.handle(request)
        for wake in self.watchers:
            wake.set()
        return answer

    def run(self, started: Started) -> None:
        """Serve until told to stop; the loop and the port are told when it is up."""
        asyncio.run(self._serve(started))

    async def _serve(self, started: Started) -> None:
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
            await self.stop.wait()
        for wake in self.watchers:
            wake.set()
        await runner.cleanup()

    async def _answer(self, incoming: web.Request) -> web.StreamResponse:
        if (incoming.method, incoming.path) == ("GET", _openapi.PATH):
            self.requests.append(LoggedRequest("GET", incoming.path, "", 200))
            described, media_type = _openapi.description(incoming.headers.get("Accept", ""))
            return web.Response(body=described, headers={"Content-Type": media_type})
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
            watch = self.store.watch(request)
            seconds = _seconds(request.query.get("timeoutSeconds"))
            status, answer = (200, {}) if watch else await self.handle(request)
        except ApiError as error:
            watch, status, answer = None, error.status, error.body
        content_type = request.content_type if request.body else ""
        self.requests.append(LoggedRequest(request.method, request.path, content_type, status))
        if watch:
            return await self._stream(incoming, watch, seconds)
        if not answer:
            return web.Response(text="404 page not found\n", status=status)
        return web.json_response(answer, status=status)

    async def _a_second(self) -> None:
        """The real server closes a watch that late, when the others have seen the definition."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), 1)

    async def _stream(
        self, incoming: web.Request, watch: Watch, seconds: float | None
    ) -> web.StreamResponse:
        """Send what changes, a line for each, until somebody has enough of it."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        wake = asyncio.Event()
        self.watchers.add(wake)
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                await response.prepare(incoming)
                async with asyncio.timeout(seconds):
                    while not self.stop.is_set():
                        wake.clear()
                        for event in watch.news():
                            await response.write(json.dumps(event).encode() + b"\n")
                        if watch.is_over:
                            await self._a_second()
                            break
                        await wake.wait()
        finally:
            self.watchers.discard(wake)
        return response


def _seconds(text: str | None) -> float | None:
    try:
        return float(int(text or 0)) or None
    except ValueError:
        raise refusal(400, "BadRequest", f"timeoutSeconds: {text}: invalid syntax") from None
