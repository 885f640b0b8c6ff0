"""How any client is called, plain or asynchronous, and what its exceptions say.

Private. A client is known by what its exceptions look like, so none has to be installed.
"""

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .._errors import ConfigurationError

Result = TypeVar("Result")

# What is to be done next: call the client, or pause for seconds. What the client returned is sent
# in, what it raised is thrown in: the steps are the same for plain and asynchronous clients.
Steps = Generator[Callable[[], Any] | float, Any, Result]

# Raised for an object that is not there, with no status.
_NOT_FOUND = {("kr8s", "NotFoundError"), ("pykube", "ObjectDoesNotExist")}


def run(
    steps: Steps[Result], *callables: Callable[..., Any] | None
) -> Result | Coroutine[Any, Any, Result]:
    """Take all steps; asynchronously if any callable is, or the first one's result is."""
    if any(map(_is_asynchronous, callables)):
        return _run_later(steps, partial(next, steps))
    resume: Callable[[], Any] = partial(next, steps)
    first = True
    try:
        while True:
            step = resume()
            if isinstance(step, float):
                time.sleep(step)
                resume = partial(steps.send, None)
                continue
            try:
                answer = step()
            except Exception as error:
                resume = partial(steps.throw, error)
            else:
                if inspect.isawaitable(answer):
                    if first:
                        return _run_later(steps, lambda: lambda: answer)  # noqa: B023 - the last round
                    raise _mixed(answer)
                resume = partial(steps.send, answer)
            first = False
    except StopIteration as end:
        result: Result = end.value
        return result


async def _run_later(steps: Steps[Result], resume: Callable[[], Any]) -> Result:
    try:
        while True:
            step = resume()
            if isinstance(step, float):
                await asyncio.sleep(step)
                resume = partial(steps.send, None)
                continue
            try:
                answer = step()
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, answer)
    except StopIteration as end:
        result: Result = end.value
        return result


def _is_asynchronous(function: Callable[..., Any] | None) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - of an object, it may be async
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _mixed(answer: object) -> ConfigurationError:
    if isinstance(answer, Coroutine):
        answer.close()
    return ConfigurationError(
        "The first callable is plain, and another one returns an awaitable, which was not awaited:"
        " make all of them asynchronous, or none. [plain-and-async]"
    )


def returned(what: str, answer: Any) -> Any:
    """What a client returned, unless it is a refusal: that would pass for success."""
    if not isinstance(answer, Mapping):
        status = status_of(answer)
    elif answer.get("kind") == "Status" and answer.get("status") == "Failure":
        status = answer.get("code")
    else:
        status = None
    if status is not None:
        raise ConfigurationError(
            f"{what}= has returned the API server's refusal ({status}), as if it were the object:"
            " have it raise an error, as with raise_for_status(). [returned-refusal]"
        )
    return answer


def status_of(error: object) -> int | None:
    """The HTTP status in an exception, or in the one that it was raised from.

    kubernetes, kubernetes_asyncio, aiohttp: `status`. pykube-ng: `code`. requests, httpx, kr8s,
    lightkube: `response.status_code`.
    """
    for link in _chain(error):
        for holder in (link, getattr(link, "response", None)):
            for attribute in ("status", "status_code", "code"):
                status = getattr(holder, attribute, None)
                if isinstance(status, int) and 400 <= status < 600:
                    return status
        package = type(link).__module__.partition(".")[0]
        if (package, type(link).__name__) in _NOT_FOUND:
            return 404
    return None


def words_of(error: object) -> str:
    """What the server says, as far as the client has kept it."""
    messages = [str(details.get("message")) for details in _details(error)]
    return " ".join([*map(str, _chain(error)), *messages])


def names_causes(error: object) -> bool:
    """Whether the server says what is wrong with which field: it never does of a failed test."""
    return any((details.get("details") or {}).get("causes") for details in _details(error))


def _details(error: object) -> Iterator[Mapping[str, Any]]:
    """The bodies of refusals. kubernetes has it in `body`; httpx, requests in the response."""
    for link in _chain(error):
        # What was streamed can only be read once; then there is none.
        with suppress(ValueError, RuntimeError):
            content = getattr(getattr(link, "response", None), "content", None)
            content = getattr(link, "body", None) or content
            body = json.loads(content) if isinstance(content, str | bytes) else content
            if isinstance(body, Mapping):
                yield body


def _chain(error: object) -> Iterator[object]:
    """An exception and what it was raised from; not what was merely being handled meanwhile.

    Each once: lightkube 1.0 raises an exception from itself where an answer is no JSON, as that of
    an overloaded kube-apiserver is not.
    """
    seen = list[object]()
    while error is not None and not any(error is one for one in seen):
        seen.append(error)
        yield error
        error = getattr(error, "__cause__", None)
