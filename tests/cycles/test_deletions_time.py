"""What is known of objects being deleted without an event of them: silence, and moments."""

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import OperatorIdentity
from kopf_finalizers._deletions import deletions as module
from kopf_finalizers._deletions import silence
from kopf_finalizers._deletions.calling_off import CallingOff
from kopf_finalizers._deletions.deletions import Deletions, Sighting
from kopf_finalizers._deletions.posting import Poster, threshold_of
from kopf_finalizers._kopf import RefusedError

from ..support.dedicated import BACKUPS, OWN, alive, deleting, record
from ..support.hooks import Told, telling
from ..support.kopf_cycles import RESOURCE
from ..support.servers import Body


class Watched:
    """What an operator sees of objects, one sighting after the other, without Kopf around it."""

    def __init__(self, poster: Poster | None = None) -> None:
        identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
        self.registry = kopf.OperatorRegistry()
        kopf.on.delete("things", registry=self.registry, id="drop")(lambda **_: None)
        self.deletions = Deletions(
            OWN,
            own_names=frozenset({OWN}),
            owns=identity.owns,
            calling_off=CallingOff(identity),
            poster=poster or Poster(),
        )

    def see(self, body: Body, event: str | None = "MODIFIED", **changed: Any) -> kopf.Body:
        seen = kopf.Body(cast("kopf.RawBody", body))
        sighting: dict[str, Any] = {
            "event": event,
            "body": seen,
            "resource": RESOURCE,
            "registry": self.registry,
            "logger": logging.getLogger("cycle"),
            "progress": kopf.AnnotationsProgressStorage(prefix="db-operator.mycompany.com"),
            "settings": kopf.OperatorSettings(),
            "cleanups": [(BACKUPS, ())],
        }
        self.deletions.look(Sighting(**sighting | changed))
        return seen


def in_a_loop(test: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Asked:
    """An API server that is asked whether objects are there: all but those that have gone."""

    def __init__(self, *gone: str, refuses: bool = False) -> None:
        self.gone = set(gone)
        self.refuses = refuses
        self.questions = list[str]()

    async def __call__(
        self, resource: kopf.Resource, metadata: Mapping[str, Any], **_: Any
    ) -> bool:
        self.questions.append(metadata["uid"])
        if self.refuses:
            raise RefusedError(503, "not now")
        return metadata["uid"] not in self.gone


def ask(monkeypatch: pytest.MonkeyPatch, server: Asked) -> Asked:
    monkeypatch.setattr(silence, "is_there", server)
    monkeypatch.setattr(silence, "PAUSES", (0.02, 0.05))
    monkeypatch.setattr(silence, "GRACE", 0.02)
    return server


@in_a_loop
async def test_what_went_unseen_is_not_held_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kopf tells nothing of objects that went while no watch was open, so the server is asked.

    Also where an event from before is looked at after they went; and nothing begins anew then.
    """
    server = ask(monkeypatch, Asked("1", "2"))
    watched = Watched()
    with telling(Told()) as told:
        for uid in ("1", "2", "3"):
            watched.see(deleting(BACKUPS, uid=uid))
        await until(lambda: server.questions.count("3") > 1)
        watched.see(deleting(BACKUPS, uid="2"))
        await until(lambda: told.of(BACKUPS).count("gone unseen") == 2)
        watched.see(deleting(BACKUPS, uid="2"))
        watched.deletions.reset()
    assert [one.uid for one in told.details if one.event == "gone"] == ["1", "2", "3"]
    assert told.of(BACKUPS).count("held") == 3


@in_a_loop
async def test_an_event_on_its_way_tells_more_than_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How an object went is told by its last event, if that comes a little later."""
    server = ask(monkeypatch, Asked("1"))
    monkeypatch.setattr(silence, "GRACE", 60.0)
    watched = Watched()
    with telling(Told()) as told:
        watched.see(deleting(BACKUPS, uid="1"))
        await until(lambda: server.questions)
        watched.see(deleting(BACKUPS, uid="1"), "DELETED")
    assert told.of(BACKUPS) == ["held", "gone removed"]


@in_a_loop
async def test_a_server_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not known to have gone is held."""
    server = ask(monkeypatch, Asked("1", refuses=True))
    watched = Watched()
    with telling(Told()) as told:
        watched.see(deleting(BACKUPS, uid="1"))
        await until(lambda: len(server.questions) >= 3)
        assert told.of(BACKUPS) == ["held"]
        server.refuses = False
        await until(lambda: told.of(BACKUPS) == ["held", "gone unseen"])


@in_a_loop
async def test_nobody_is_asked_for_what_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for what is heard of."""
    server = ask(monkeypatch, Asked())
    watched = Watched()
    with telling(Told()):
        watched.see(deleting(BACKUPS, uid="1"))
        watched.see(deleting(BACKUPS, uid="1"), "DELETED")
        watched.see(deleting(BACKUPS, uid="2"))
        await until(lambda: len(server.questions) >= 2)
        watched.deletions.reset()
    assert set(server.questions) == {"2"}


@in_a_loop
async def test_what_is_not_known_is_not_told_of() -> None:
    """A storage may be asked about any object."""
    watched = Watched()
    body = kopf.Body(cast("kopf.RawBody", deleting(OWN)))
    done: Any = {"purpose": "delete", "success": True}
    of_a_creation: Any = {"purpose": "create"}
    with telling(Told()) as told:
        watched.see(deleting(OWN, uid="2"))
        assert watched.deletions.asked("drop", body, None) is None
        assert watched.deletions.read("drop", body, done) == done
        watched.deletions.attempted("drop", body, done)
        watched.deletions.sending(body, kopf.Patch())
        watched.see(deleting(OWN), "DELETED")
        # Without the operator's own finalizer nothing waits for its handlers.
        seen = watched.see(deleting(BACKUPS, uid="3"))
        watched.deletions.attempted("drop", seen, done)
        watched.deletions.attempted("create", seen, of_a_creation)
    assert [str(one.event) for one in told.details] == ["held", "held"]


@pytest.mark.parametrize("what", ["_REMEMBERED", "_MOST"])
@in_a_loop
async def test_what_has_gone_is_remembered_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The last one, here; of so many objects, and for so long."""
    monkeypatch.setattr(module, what, 1 if what == "_MOST" else 0.0)
    watched = Watched()
    with telling(Told()) as told:
        for uid in ("1", "2"):
            watched.see(deleting(OWN, uid=uid))
            watched.see(deleting(OWN, uid=uid), "DELETED")
            await asyncio.sleep(0.001)
        watched.see(deleting(OWN, uid="2"))
        watched.see(deleting(OWN, uid="1"))
    assert told.of(OWN) == ["held", "gone removed"] * 2 + ["held"]


@pytest.mark.parametrize(
    ("waited", "moment"), [(0, 600), (599, 600), (601, 2400), (2399, 2400), (4000, 4200)]
)
@in_a_loop
async def test_events_are_posted_at_moments_counted_from_the_deletion(
    monkeypatch: pytest.MonkeyPatch, waited: float, moment: float
) -> None:
    """So that an operator which is started again and again posts no more than one that runs."""
    moments = list[float]()
    monkeypatch.setattr(
        "kopf_finalizers._deletions.held.Deletion.later",
        lambda self, what, seconds, fn: moments.append(seconds),
    )
    began = datetime.now(UTC) - timedelta(seconds=waited)
    watched = Watched(Poster(threshold_of(True)))
    watched.see(alive(OWN, deletionTimestamp=began.isoformat()))
    assert moments == [moment]


@in_a_loop
async def test_the_operators_own_finalizer_is_named_where_it_waits_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not where all that it waits for are finalizers that are named anyway."""
    posted = list[str]()

    def event(body: kopf.Body, *, message: str, **_: Any) -> None:
        posted.append(f"{body.metadata.uid}: {message}")

    monkeypatch.setattr(kopf, "event", event)
    watched = Watched(Poster(threshold_of(0.01)))
    now = datetime.now(UTC)
    failed = {"db-operator.mycompany.com/drop": record(purpose="delete", message="no zone")}
    for uid, finalizers, annotations in [
        ("1", (BACKUPS, OWN), {}),
        ("2", (BACKUPS, OWN), failed),
        ("3", (OWN,), {}),
    ]:
        found = {"uid": uid, "annotations": annotations, "deletionTimestamp": now.isoformat()}
        watched.see(alive(*finalizers, **found))
    await until(lambda: len(posted) == 4)
    watched.deletions.reset()
    since = now.isoformat(timespec="seconds")
    tried = "It was tried once; the last error: no zone."
    assert set(posted) == {
        f"1: {BACKUPS} waits for its handlers to end since {since}.",
        f"2: {BACKUPS} waits for its handlers to end since {since}.",
        f"2: {OWN} waits for the cleanup drop since {since}. {tried}",
        f"3: {OWN} waits for its handlers to end since {since}.",
    }


def test_no_event_is_posted_where_nobody_has_asked_for_it() -> None:
    """It is opt-in."""
    assert threshold_of(False) is None
    assert threshold_of(None) is None
    assert threshold_of(True) == 600
    assert threshold_of(90) == 90
