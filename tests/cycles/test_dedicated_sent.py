"""Objects that were written and not seen since, without a server: what its answers come to."""

import asyncio
import dataclasses
import functools
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers._changes import AddFinalizer, RemoveFinalizer, RemoveUnwanted
from kopf_finalizers._dedicated import sent
from kopf_finalizers._dedicated.cycle import Cycle
from kopf_finalizers._dedicated.sent import WrittenObjects
from kopf_finalizers._kopf import RefusedError
from kopf_finalizers._moves import Moves

from ..support.dedicated import BACKUPS, OWN, PREFIX, alive, deleting
from ..support.kopf_cycles import RESOURCE
from ..support.servers import JSON_PATCH, MERGE_PATCH, Body

LOGGER = logging.getLogger("cycle")


class Server:
    """Answers as it is told, in the last way for ever, and notes what it is asked."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.finalizers = list[str]()
        self.asked = list[tuple[Any, str, str | None]]()

    async def __call__(
        self,
        resource: kopf.Resource,
        metadata: Mapping[str, Any],
        payload: Any,
        content_type: str,
        *,
        subresource: str | None,
        **_: Any,
    ) -> Mapping[str, Any]:
        self.asked.append((payload, content_type, subresource))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status != 200:
            raise RefusedError(status, "not now")
        now = {"finalizers": self.finalizers} if self.finalizers else {}
        return {"metadata": {**metadata, "resourceVersion": "9", **now}}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays with objects and a server, in an event loop and with short pauses."""
    monkeypatch.setattr(sent, "PAUSES", (0.001, 0.002))

    def play(server: Server, scene: Callable[[WrittenObjects], Awaitable[None]]) -> None:
        monkeypatch.setattr(sent, "patch_object", server)

        async def run() -> None:
            objects = WrittenObjects()
            await scene(objects)
            objects.reset()

        asyncio.run(run())

    return play


OTHER = dataclasses.replace(RESOURCE, version="v1beta1")
PROGRESS = kopf.AnnotationsProgressStorage(prefix=PREFIX)


def seen(body: Body) -> kopf.Body:
    return kopf.Body(cast("kopf.RawBody", body))


def see(
    objects: WrittenObjects,
    body: Body,
    *,
    leftover: bool = False,
    **options: Any,
) -> Any:
    told = {"body": seen(body), "type": "MODIFIED", "resource": RESOURCE, "logger": LOGGER}
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = OWN
    return objects.see({**told, **options}, settings, PROGRESS, leftover=leftover)


def send(
    objects: WrittenObjects,
    body: Body,
    *fns: Any,
    progress: kopf.ProgressStorage = PROGRESS,
    resource: kopf.Resource = RESOURCE,
    **options: Any,
) -> None:
    patch = kopf.Patch(fns=fns, body=seen(body))
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = OWN
    cycle = Cycle(patch, resource, LOGGER, Moves(settings), progress_first=False)
    objects.send(cycle, seen(body), patch, settings, progress, **options)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


BODY = deleting(BACKUPS, OWN, resourceVersion="7")
REMOVES = (RemoveFinalizer(BACKUPS),)


def test_an_object_that_has_gone_is_forgotten(played: Callable[..., None]) -> None:
    """Kopf may not be told of it: its watch may have been interrupted."""
    server = Server(404)

    async def scene(objects: WrittenObjects) -> None:
        see(objects, BODY)
        send(objects, BODY, *REMOVES)
        await until(lambda: objects.of(BODY) is None)

    played(server, scene)
    ((payload, content_type, _),) = server.asked
    assert content_type == "application/merge-patch+json"
    assert payload["metadata"]["uid"] == "1-2"
    assert payload["metadata"]["resourceVersion"] == "7"
    assert f"{PREFIX}/touch-dummy" in payload["metadata"]["annotations"]


def test_a_newer_version_is_waited_for_but_not_for_ever(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An event is on its way then, and nothing is written; at last another object has the name."""
    monkeypatch.setattr(sent, "_IN_VAIN", 2)
    server = Server(409)

    async def scene(objects: WrittenObjects) -> None:
        see(objects, BODY)
        send(objects, BODY, *REMOVES)
        await until(lambda: objects.of(BODY) is None)

    played(server, scene)
    assert len(server.asked) == 3
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_an_event_ends_the_waiting(played: Callable[..., None]) -> None:
    """An object that Kopf hears of is Kopf's affair."""
    server = Server(200)

    async def scene(objects: WrittenObjects) -> None:
        see(objects, BODY)
        send(objects, BODY, *REMOVES)
        see(objects, BODY)
        await asyncio.sleep(0.01)

    played(server, scene)
    assert server.asked == []


def test_where_an_operator_hears_late_it_is_more_patient(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside thousands of objects an event comes late: a wake-up would be one more for all."""
    server = Server(200)
    other = deleting(BACKUPS, OWN, uid="3-4")

    async def scene(objects: WrittenObjects) -> None:
        loop, clock = asyncio.get_running_loop(), [100.0]
        monkeypatch.setattr(loop, "time", lambda: clock[0])

        async def at(now: float) -> int:
            clock[0] = now
            for _ in range(5):
                await asyncio.sleep(0)
            return len(server.asked)

        for body in (BODY, other):
            see(objects, body)
            send(objects, body, *REMOVES)
        clock[0] = 130.0
        see(objects, other)  # after 30 seconds
        assert await at(130.0005) == 0
        assert await at(159.0) == 0
        assert await at(160.5) == 1

    played(server, scene)


def test_nothing_is_sent_when_the_operator_has_stopped(played: Callable[..., None]) -> None:
    """Neither what is to be done later, nor what is being done."""
    reached = asyncio.Event()

    async def never(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.sleep(60)

    async def scene(objects: WrittenObjects) -> None:
        see(objects, BODY)
        send(objects, BODY, *REMOVES)
        known = objects.of(BODY)
        await reached.wait()
        other = deleting(BACKUPS, OWN, uid="3-4")
        see(objects, other)
        send(objects, other, *REMOVES)
        (sending,) = objects.reset()
        assert known is not None
        assert known.task is sending
        await asyncio.wait([sending])
        assert sending.cancelled()

    played(cast("Any", never), scene)


def test_an_object_that_is_alive_is_forgotten_when_all_is_well() -> None:
    """What was added has been stored; and nothing is kept of objects that are not written."""
    objects = WrittenObjects()

    async def scene() -> None:
        assert see(objects, alive()) is None
        send(objects, alive(), functools.partial(dict))
        assert objects.of(alive()) is None
        send(objects, alive(), AddFinalizer(BACKUPS))
        assert objects.of(alive()) is not None
        assert see(objects, alive(), leftover=True).lost == 1
        assert see(objects, alive(BACKUPS)) is None
        assert objects.of(alive()) is None

    asyncio.run(scene())


def test_an_object_is_forgotten_with_its_last_event() -> None:
    """Also one that nothing was known of."""
    objects = WrittenObjects()
    see(objects, BODY)
    assert see(objects, BODY, type="DELETED") is None
    assert objects.of(BODY) is None
    assert see(objects, BODY, type="DELETED") is None


ENDED: Any = {"purpose": "delete", "success": True}


def test_an_object_has_gone_when_the_last_of_its_streams_tells() -> None:
    """What has ended in one of them is known until then."""
    objects = WrittenObjects()
    before = alive(BACKUPS, OWN)
    see(objects, BODY, resource=OTHER)
    see(objects, BODY).ended["backups"] = ENDED
    assert see(objects, BODY, type="DELETED") is None
    assert see(objects, before, resource=OTHER) is None
    assert objects.ended("backups", seen(before)) is None
    see(objects, BODY, resource=OTHER)
    assert objects.ended("backups", seen(BODY)) == ENDED
    assert see(objects, BODY, type="DELETED", resource=OTHER) is None
    assert objects.ended("backups", seen(BODY)) is None


def test_each_stream_waits_for_its_own_events(played: Callable[..., None]) -> None:
    """An event that another one sees may be from before what was sent, and refused, here."""
    server = Server(200)

    async def scene(objects: WrittenObjects) -> None:
        see(objects, BODY)
        send(objects, BODY, *REMOVES)
        see(objects, BODY, resource=OTHER)
        await until(lambda: server.asked)

    played(server, scene)


def test_a_stream_that_has_finished_waits_for_others_and_not_for_ever(
    played: Callable[..., None],
) -> None:
    """As long as they are at work nothing is written; they may end in silence."""
    server, asked = Server(404), list[int]()

    def at_work() -> bool:
        asked.append(len(server.asked))
        return len(asked) < 3

    async def scene(objects: WrittenObjects) -> None:
        see(objects, BODY)
        send(objects, BODY, others=at_work)
        await until(lambda: server.asked)
        see(objects, BODY)
        send(objects, BODY)  # held back for other reasons
        known = objects.of(BODY)
        assert known is not None
        assert known.timer is None

    played(server, scene)
    assert asked == [0, 0, 0]


def test_what_has_ended_is_known_when_the_object_is_not_found(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kopf may still have events of before; but it may never be told that the object has gone."""
    monkeypatch.setattr(sent, "REMEMBERED", 0.1)
    server = Server(404)

    async def scene(objects: WrittenObjects) -> None:
        known = see(objects, BODY)
        known.ended["backups"] = ENDED
        send(objects, BODY, *REMOVES)
        await until(lambda: server.asked and known.has_gone)
        assert see(objects, BODY) is known
        send(objects, BODY, *REMOVES)  # an event of before is handled
        await until(lambda: objects.of(BODY) is None)

    played(server, scene)
    assert len(server.asked) == 1


def test_a_storage_in_the_status_is_written_where_the_status_is(
    played: Callable[..., None],
) -> None:
    """Where it is a subresource, a server takes no status in a patch of the object."""
    server = Server(404)
    resource = dataclasses.replace(RESOURCE, subresources=frozenset({"status"}))
    progress = kopf.StatusProgressStorage(name="mine")

    async def scene(objects: WrittenObjects) -> None:
        for one in (resource, RESOURCE):
            send(objects, alive(), AddFinalizer(BACKUPS), progress=progress, resource=one)
            await until(lambda: objects.of(alive()) is None)

    played(server, scene)
    assert [subresource for _, _, subresource in server.asked] == ["status", None]
    assert "dummy" in server.asked[0][0]["status"]["mine"]


def test_what_is_refused_again_and_again_is_sent_by_itself(
    played: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Kopf hears nothing of why a release is refused: so it is asked about."""
    server = Server(200, 200, 422, 200)

    async def scene(objects: WrittenObjects) -> None:
        for _ in range(3):
            see(objects, BODY, leftover=True)
            send(objects, BODY, *REMOVES)
        await until(lambda: len(server.asked) > 4)

    played(server, scene)
    operations, content_type, _ = server.asked[2]
    assert content_type == "application/json-patch+json"
    assert operations[-1] == {"op": "replace", "path": "/metadata/finalizers", "value": [OWN]}
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert BACKUPS in warning
    assert "not now" in warning


def test_a_release_that_has_lost_its_races_overtakes(
    played: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent with tests of the object and its list: whoever writes a status is no matter.

    What was seen last may be old by now, so that is asked for first; and the list may change.
    """
    server = Server(200, 422, 200, 200, 200, 403, 200)

    async def scene(objects: WrittenObjects) -> None:
        monkeypatch.setattr(sent, "PAUSES", (60.0,))
        known = see(objects, BODY, leftover=True)
        objects.overtake(known)  # nothing was to go yet
        before = known.task
        assert before is None
        send(objects, BODY, *REMOVES)
        objects.overtake(known)
        objects.overtake(known)  # it is on its way already
        assert known.taken == {BACKUPS}
        see(objects, BODY)  # an event of before
        await known.task
        assert known.taken == {BACKUPS}
        objects.overtake(known)  # refused
        await known.task
        assert known.taken == set()
        assert known.timer is not None
        objects.overtake(known)  # and so it rests
        await known.task

    played(server, scene)
    pairs = [(MERGE_PATCH, JSON_PATCH)] * 3
    assert [content_type for _, content_type, _ in server.asked] == [*itertools.chain(*pairs)]
    assert server.asked[0][0] == {"metadata": {"uid": "1-2"}}
    (test_uid, test_list, operation) = server.asked[1][0]
    assert test_uid["value"] == "1-2"
    assert test_list["value"] == [BACKUPS, OWN]
    assert operation["value"] == [OWN]


@pytest.mark.parametrize(("finalizers", "asked"), [([OWN], 1), ([BACKUPS, OWN], 6)])
def test_a_release_that_overtakes_is_not_sent_for_ever(
    played: Callable[..., None], caplog: pytest.LogCaptureFixture, finalizers: list[str], asked: int
) -> None:
    """What is not there any more is not sent, and what is refused again and again is told of."""
    server = Server(*[200, 422] * 3)
    server.finalizers = finalizers

    async def scene(objects: WrittenObjects) -> None:
        known = see(objects, BODY, leftover=True)
        send(objects, BODY, *REMOVES)
        objects.overtake(known)
        await known.task
        known.rest()

    played(server, scene)
    assert len(server.asked) == asked
    assert ("[refused]" in caplog.text) is (asked == 6)


@pytest.mark.parametrize(("held_by", "is_looked_at"), [(OWN, True), ("other.org/f", False)])
def test_an_object_that_only_others_hold_is_not_looked_at_again(
    held_by: str, is_looked_at: bool
) -> None:
    """It would be written every minute, for as long as they hold it, for a patch without effect."""
    objects, body = WrittenObjects(), {**BODY, "metadata": {**BODY["metadata"]}}
    body["metadata"]["finalizers"] = [held_by]

    async def scene() -> None:
        known = see(objects, body)
        send(objects, body, lambda raw: None)
        assert (known.timer is not None) is is_looked_at
        objects.reset()

    asyncio.run(scene())


def test_a_removal_that_asks_again_does_not_overtake() -> None:
    """Whether it is wanted is asked when Kopf sends it: it may be by now."""
    objects = WrittenObjects()

    async def scene() -> None:
        see(objects, BODY, leftover=True)
        send(objects, BODY, RemoveUnwanted(BACKUPS, is_wanted=lambda body: False))
        known = objects.of(BODY)
        assert known is not None
        assert known.waiting == (BACKUPS,)
        assert known.releases == ()
        objects.reset()

    asyncio.run(scene())
