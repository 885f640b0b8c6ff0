"""Objects that are moved again after a while, and of which no event comes: they are woken up."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import _moves
from kopf_finalizers._kopf import RefusedError
from kopf_finalizers._moves import Moves

from ..support.kopf_cycles import RESOURCE
from ..support.renamed import thing
from ..support.servers import MERGE_PATCH


class Server:
    """Answers as it is told, in the last way for ever, and notes what it is asked."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked = list[Any]()

    async def find_resource(self, body: kopf.Body, **_: Any) -> kopf.Resource:
        return RESOURCE

    async def patch_object(
        self, resource: kopf.Resource, metadata: Mapping[str, Any], *sent: Any, **_: Any
    ) -> Mapping[str, Any]:
        self.asked.append(sent)
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status != 200:
            raise RefusedError(status, "not now")
        return {}


Played = Callable[[Server, Callable[[Moves], Awaitable[None]]], None]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Plays with a process's moves and a server, in an event loop and with short pauses."""
    monkeypatch.setattr(_moves, "AGAIN", 0.01)
    monkeypatch.setattr(_moves, "REFUSED", 0.01)

    def play(server: Server, scene: Callable[[Moves], Awaitable[None]]) -> None:
        monkeypatch.setattr(_moves, "patch_object", server.patch_object)
        monkeypatch.setattr(_moves, "find_resource", server.find_resource)

        async def run() -> None:
            moves = Moves(kopf.OperatorSettings())
            await scene(moves)
            moves.rest()

        asyncio.run(run())

    return play


def version(number: int) -> kopf.Body:
    return kopf.Body(cast("Any", thing(resourceVersion=str(number))))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_an_object_of_which_nothing_is_heard_is_woken_up(played: Played) -> None:
    """A server may have refused the move, and Kopf have given it up."""
    server = Server(200)

    async def scene(moves: Moves) -> None:
        moves.make(version(1))
        await until(lambda: server.asked)

    played(server, scene)
    ((payload, content_type),) = server.asked
    assert content_type == MERGE_PATCH
    assert payload["metadata"]["resourceVersion"] == "1"


def test_an_object_that_another_release_moves_back_is_woken_up(played: Played) -> None:
    """As it was seen last: nothing is written where it has changed since."""
    server = Server(200)

    async def scene(moves: Moves) -> None:
        moves.make(version(1))
        moves.see(version(2))
        assert not moves.may_make(version(3))
        moves.see(version(3))  # another finalizer, of which there is nothing to be moved
        await until(lambda: server.asked)
        assert moves.may_make(version(4))

    played(server, scene)
    assert server.asked[0][0]["metadata"]["resourceVersion"] == "3"


@pytest.mark.parametrize("how", ["as it should be", "gone", "stopped"])
def test_an_object_that_needs_no_move_is_left_alone(played: Played, how: str) -> None:
    """Then nothing is written, however long ago it was moved."""
    server = Server(200)

    async def scene(moves: Moves) -> None:
        moves.make(version(1))
        if how == "as it should be":
            moves.see(version(2))
        elif how == "gone":
            moves.forget(version(2))
        else:
            moves.rest()
        (done := asyncio.Event()).clear()
        asyncio.get_running_loop().call_later(0.03, done.set)  # well after it would have been
        await done.wait()

    played(server, scene)
    assert server.asked == []


def test_what_is_being_sent_when_the_operator_stops_is_broken_off(played: Played) -> None:
    """Its client is closed after that."""
    server = Server(200)
    reached = asyncio.Event()

    async def never(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.sleep(60)

    async def scene(moves: Moves) -> None:
        moves.make(version(1))
        await reached.wait()
        (sending,) = moves.rest()
        await asyncio.wait([sending])
        assert sending.cancelled()
        assert moves.rest() == []

    server.patch_object = never  # type: ignore[method-assign,assignment]
    played(server, scene)


def test_a_refusal_is_told_and_tried_again(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    """But not where an event is on its way; and nothing is done of an object that has gone."""
    server = Server(403, 409, 404)

    async def scene(moves: Moves) -> None:
        moves.make(version(1))
        await until(lambda: len(server.asked) == 3 and not moves.is_made(version(2)))

    played(server, scene)
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert "not now" in warning
    assert "object" in warning
