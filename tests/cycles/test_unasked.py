"""Objects about which no filter is asked: what is known of them from the storages alone."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers._changes import AddFinalizer
from kopf_finalizers._dedicated import sent
from kopf_finalizers._dedicated.sent import Written, WrittenObjects
from kopf_finalizers._dedicated.unasked import KopfsChange, Unasked, WatchedProgress, own_of
from kopf_finalizers._kopf import RefusedError

from ..support.dedicated import OTHER, OWN, PREFIX, Operator, alive, deleted, deleting
from ..support.kopf_cycles import RESOURCE
from ..support.servers import JSON_PATCH, MERGE_PATCH, Body


class Server:
    """Answers as it is told, in the last way for ever, and notes what it is asked."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.asked = list[Any]()
        self.sought = list[str]()

    async def find_resource(self, body: Mapping[str, Any], **_: Any) -> kopf.Resource:
        self.sought.append(body["kind"])
        return RESOURCE

    async def patch_object(
        self, resource: kopf.Resource, metadata: Any, payload: Any, content_type: str, **_: Any
    ) -> Mapping[str, Any]:
        self.asked.append((content_type, payload))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status != 200:
            raise RefusedError(status, "not now")
        return {"metadata": {**metadata, "resourceVersion": "9"}}


Played = Callable[[Server, Callable[[Unasked], Awaitable[None]]], None]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Plays with objects and a server, in an event loop and with short pauses."""
    monkeypatch.setattr(sent, "PAUSES", (0.001, 0.002))

    def play(server: Server, scene: Callable[[Unasked], Awaitable[None]]) -> None:
        monkeypatch.setattr(sent, "patch_object", server.patch_object)
        monkeypatch.setattr(sent, "find_resource", server.find_resource)

        async def run() -> None:
            objects = WrittenObjects()
            await scene(Unasked(objects))
            objects.reset()

        asyncio.run(run())

    return play


PROGRESS = kopf.AnnotationsProgressStorage(prefix=PREFIX)
SETTINGS = kopf.OperatorSettings()
SETTINGS.persistence.finalizer = OWN


def body_of(body: Body) -> kopf.Body:
    return kopf.Body(cast("kopf.RawBody", body))


def block_deletion(body: Any, finalizer: str) -> None:
    """As Kopf's, which has a test in the contract."""
    AddFinalizer(finalizer)(body)


def allow_deletion(body: Any, finalizer: str) -> None:
    left = [one for one in body["metadata"].get("finalizers", []) if one != finalizer]
    body["metadata"]["finalizers"] = left


ADDS = functools.partial(block_deletion, finalizer=OWN)
REMOVES = functools.partial(allow_deletion, finalizer=OWN)


def send(unasked: Unasked, body: Body, *fns: Any) -> kopf.Patch:
    patch = kopf.Patch(fns=fns, body=body_of(body))
    unasked.send(body_of(body), patch, SETTINGS, PROGRESS)
    return patch


def known_of(unasked: Unasked, body: Body) -> Written | None:
    return unasked.objects.of(body)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_a_refused_change_is_told_when_kopf_hears_nothing_of_it(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    """Kopf takes the refusal for a lost race; it is asked about as soon as that comes again."""
    server = Server(200, 200, 422, 200)

    async def scene(unasked: Unasked) -> None:
        send(unasked, alive(resourceVersion="1"), ADDS)
        await until(lambda: server.asked)
        unasked.see(body_of(alive(resourceVersion="2")))
        send(unasked, alive(resourceVersion="2"), ADDS)
        await until(lambda: len(server.asked) > 2)

    played(server, scene)
    assert [content_type for content_type, _ in server.asked[:3]] == [
        MERGE_PATCH,
        MERGE_PATCH,
        JSON_PATCH,
    ]
    version, uid, test, operation = server.asked[2][1]
    assert version == {"op": "test", "path": "/metadata/resourceVersion", "value": "9"}
    assert (uid["value"], test["value"]) == ("1-2", None)
    assert operation == {"op": "add", "path": "/metadata/finalizers", "value": [OWN]}
    assert server.sought == ["Thing"]
    warning = next(one.getMessage() for one in caplog.records if one.levelno == logging.WARNING)
    assert warning.startswith("[default/t] ")
    assert OWN in warning
    assert "not now" in warning


def test_the_resource_is_asked_for_once(played: Played) -> None:
    """Whatever number of objects waits."""
    server = Server(200)

    async def scene(unasked: Unasked) -> None:
        for uid in ("1", "2"):
            send(unasked, deleting(OWN, uid=uid), REMOVES)
        await until(lambda: len(server.asked) > 3)

    played(server, scene)
    assert server.sought == ["Thing"]


@pytest.mark.parametrize(
    ("before", "fns", "after", "is_known"),
    [
        (alive(resourceVersion="1"), [ADDS], alive(OWN, resourceVersion="2"), False),
        (alive(resourceVersion="1"), [ADDS], alive(resourceVersion="2"), True),
        (alive(resourceVersion="1"), [ADDS], alive(resourceVersion="1"), True),
        (alive(OWN, resourceVersion="1"), [REMOVES], alive(resourceVersion="2"), False),
        (alive(OWN, resourceVersion="1"), [REMOVES], alive(OWN, resourceVersion="2"), True),
        (deleting(OWN, resourceVersion="1"), [REMOVES], deleting(resourceVersion="2"), False),
        (deleting(OWN, resourceVersion="1"), [], deleting(OWN, resourceVersion="2"), True),
        (alive(OWN), [], alive(OWN), False),
        (deleting(OTHER), [], deleting(OTHER), False),
    ],
)
def test_an_object_is_forgotten_when_it_is_as_it_was_to_be(
    played: Played, before: Body, fns: list[Any], after: Body, *, is_known: bool
) -> None:
    """And nothing is known of others."""

    async def scene(unasked: Unasked) -> None:
        unasked.see(body_of(before))
        send(unasked, before, *fns)
        unasked.see(body_of(after))
        assert (known_of(unasked, before) is not None) == is_known

    played(Server(200), scene)


def test_an_object_of_which_kopf_sends_nothing_more_is_forgotten(played: Played) -> None:
    """But not which of its cleanups have ended, as long as it is there."""
    server = Server(200)
    others, one = deleting(OWN, uid="2", resourceVersion="1"), alive(resourceVersion="1")
    key = cast("kopf.HandlerId", "cleanup")
    record: Any = {"purpose": "delete", "success": True}

    async def scene(unasked: Unasked) -> None:
        unasked.ended(key, record, body_of(others), SETTINGS, PROGRESS)
        send(unasked, others)
        send(unasked, one, ADDS)
        for body in (others, one):
            unasked.see(body_of(body))
        await until(lambda: known_of(unasked, one) is None)
        kept = known_of(unasked, others)
        assert kept is not None
        await until(lambda: kept.timer is None)
        assert kept.ended == {"cleanup": record}

    played(server, scene)
    assert server.asked == []


def test_pauses_begin_anew_with_what_somebody_else_writes(played: Played) -> None:
    """And go on growing with the events of what was written to be woken up."""

    async def scene(unasked: Unasked) -> None:
        send(unasked, deleting(OWN, resourceVersion="1"), REMOVES)
        known = known_of(unasked, deleting())
        assert known is not None
        known.tries, known.expected = 3, 1
        unasked.see(body_of(deleting(OWN, resourceVersion="2")))
        assert known.tries == 3
        unasked.see(body_of(deleting(OWN, resourceVersion="3")))
        assert known.tries == 0

    played(Server(200), scene)


def test_a_filter_that_is_asked_after_all_takes_over(played: Played) -> None:
    """Deletions may be looked at while objects that are alive are not."""

    async def scene(unasked: Unasked) -> None:
        send(unasked, alive(), ADDS)
        body = deleting(OWN)
        told = {"body": body_of(body), "type": "MODIFIED", "resource": RESOURCE}
        told["logger"] = logging.getLogger("cycle")
        known = unasked.objects.see(told, SETTINGS, PROGRESS, leftover=False)
        assert known is not None
        assert known.stream == RESOURCE
        assert list(unasked.objects.known.values()) == [{RESOURCE: known}]
        known.lost = 7
        unasked.see(body_of(deleting()))
        send(unasked, body, REMOVES)
        assert (known_of(unasked, body), known.lost, known.timer) == (known, 7, None)

    played(Server(200), scene)


def test_what_kopf_has_left_over_is_decided_anew() -> None:
    """But a release after the last cleanup goes on: Kopf has purged by then what they have done."""

    async def scene() -> None:
        unasked = Unasked(WrittenObjects())
        (early,) = send(unasked, deleting(OWN), REMOVES).fns
        patch = send(unasked, deleting(OWN), early)
        assert patch.fns == []
        assert f"{PREFIX}/touch-dummy" in patch.metadata.annotations
        alive_now = alive(OWN, uid="2", resourceVersion="1")
        send(unasked, alive_now, early)
        assert known_of(unasked, alive_now) is not None  # if that is refused, too
        unasked.see(body_of(alive(OWN, uid="2", resourceVersion="2")))
        assert known_of(unasked, alive_now) is None
        assert send(unasked, deleting(OWN), early, REMOVES).fns != []
        record: Any = {"purpose": "delete", "success": True}
        key = cast("kopf.HandlerId", "cleanup")
        unasked.ended(key, record, body_of(deleting(OWN)), SETTINGS, PROGRESS)
        (final,) = send(unasked, deleting(OWN), REMOVES).fns
        assert send(unasked, deleting(OWN, resourceVersion="2"), final).fns == [final]
        unasked.objects.reset()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("fn", "body", "expected"),
    [
        (REMOVES, alive(OWN, labels={"a": "2"}), [OWN]),
        (REMOVES, alive(OWN, labels={"a": "1"}, annotations={"b": "1"}), [OWN]),
        (REMOVES, alive(OWN, labels={"a": "1"}, annotations={"written": "1"}), []),
        (REMOVES, deleting(OWN, labels={"a": "1"}), [OWN]),
        (ADDS, alive(labels={"a": "2"}), [OWN]),
        (ADDS, deleting(labels={"a": "1"}), []),
    ],
)
def test_a_change_is_made_where_it_is_still_right(fn: Any, body: Body, expected: list[str]) -> None:
    """Kopf sends it to the object as it is after a merge patch, whoever has changed it."""

    async def scene() -> None:
        unasked = Unasked(WrittenObjects())
        before = alive(*([OWN] if fn is REMOVES else []), labels={"a": "1"})
        patch = kopf.Patch(fns=[fn], body=body_of(before))
        patch.metadata.annotations["written"] = "1"
        unasked.send(body_of(before), patch, SETTINGS, PROGRESS)
        (guarded,) = patch.fns
        assert isinstance(guarded, KopfsChange)
        changed: Any = {**body, "metadata": dict(body["metadata"])}
        guarded(changed)
        assert (changed["metadata"].get("finalizers") or []) == expected
        unasked.objects.reset()

    asyncio.run(scene())


def test_storages_of_the_operators_own_are_watched_with_the_first_event() -> None:
    """Until then they are what they were; and they are asked as before."""
    operator = Operator(storages=False)
    operator.on.delete("things")(operator.handler("cleanup"))
    progress = kopf.AnnotationsProgressStorage(prefix="mine.org")
    persistence = operator.settings.persistence
    persistence.progress_storage = progress
    operator.start()
    assert persistence.progress_storage is progress
    body = operator.settle(alive(resourceVersion="1"))
    assert isinstance(persistence.progress_storage, WatchedProgress)
    assert own_of(persistence.progress_storage) is progress
    persistence.progress_storage.flush()
    operator.settle(deleted(body))
    assert operator.calls == ["cleanup"]
