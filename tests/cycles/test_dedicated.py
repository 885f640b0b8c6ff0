"""Dedicated finalizers, cycle by cycle: Kopf's own cycles, without an API server in between.

The rows of the table in `kopf_finalizers._dedicated.cycle`, and a whole life.
"""

import logging
from typing import Any

import kopf
import pytest

from kopf_finalizers import ConfigurationError, remove_finalizer
from kopf_finalizers._changes import AddFinalizer, RemoveFinalizer

from ..support.dedicated import (
    BACKUPS,
    BUCKETS,
    LATER,
    NEVER,
    OTHER,
    OWN,
    PREFIX,
    Operator,
    alive,
    annotations_of,
    deleted,
    deleting,
    messages,
    record,
)

# Alive


@pytest.mark.parametrize("kind", ["create", "update", "resume", "field", "event"])
def test_missing_finalizer_is_added_where_a_handler_matches(kind: str) -> None:
    """An object that a handler matches gets the handler's finalizer, and keeps everybody else's."""
    operator = Operator()
    options = {"field": "spec.size"} if kind == "field" else {}
    getattr(operator.on, kind)("things", finalizer="backups", **options)(operator.handler("h"))
    assert operator.cycle(alive(OTHER)).finalizers() == [OTHER, BACKUPS]


def test_handlers_wait_until_the_finalizer_is_stored() -> None:
    """In the cycle that adds a finalizer no state-dependent handler runs, and nothing is stored."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("guarded"))
    operator.on.create("things")(operator.handler("plain"))
    operator.on.event("things")(operator.handler("event"))
    outcome = operator.cycle(alive())
    assert operator.calls == ["event"]
    assert outcome.patch.fns == [AddFinalizer(BACKUPS)]
    assert dict(outcome.patch) == {}
    operator.cycle(outcome.after())
    assert operator.calls == ["event", "event", "guarded", "plain"]


def test_dedicated_finalizers_arrive_with_kopfs_own() -> None:
    """All finalizers of an operator go out in one patch, Kopf's own among them."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets"))
    outcome = operator.cycle(alive(OTHER))
    assert outcome.finalizers() == [OTHER, BACKUPS, BUCKETS, OWN]
    assert dict(outcome.patch) == {}


def test_nothing_is_sent_when_all_finalizers_are_in_place() -> None:
    """An event of an object that has what it needs costs nothing."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.create("things", finalizer="buckets")(operator.handler("created"))
    settled = operator.settle(alive())
    operator.calls.clear()
    assert settled["metadata"]["finalizers"] == [BACKUPS, BUCKETS, OWN]
    assert not operator.cycle(settled).patch
    assert operator.calls == []


def test_finished_handlers_stay_finished_while_a_finalizer_is_put_back() -> None:
    """When somebody has taken a finalizer off, it comes back before the handlers go on."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("first"))
    operator.on.create("things", finalizer="backups")(operator.handler("second", LATER, None))
    body = operator.cycle(alive(BACKUPS)).after()
    assert operator.calls == ["first", "second"]
    progress = body["metadata"]["annotations"]
    body["metadata"]["finalizers"] = []
    outcome = operator.cycle(body)
    assert operator.calls == ["first", "second"]
    assert outcome.finalizers() == [BACKUPS]
    assert outcome.after()["metadata"]["annotations"] == progress


def test_object_that_stops_matching_loses_the_finalizer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A finalizer that no handler wants any more is released, and nobody else's is."""
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("h"))
    operator.on.create("things", finalizer="buckets")(operator.handler("other"))
    outcome = operator.cycle(alive(BACKUPS, OTHER, BUCKETS, BACKUPS, labels={"a": "c"}))
    assert outcome.finalizers() == [OTHER, BUCKETS]
    assert any(f"Releasing {BACKUPS}: no handler" in m for m in messages(caplog, logging.DEBUG))


def test_finalizer_stays_while_any_handler_matches() -> None:
    """Handlers that share a finalizer guard the object together."""
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("one"))
    operator.on.event("things", finalizer="backups", labels={"a": "c"})(operator.handler("two"))
    assert operator.cycle(alive(BACKUPS, labels={"a": "c"})).finalizers() == [BACKUPS]
    assert operator.cycle(alive(BACKUPS, labels={"a": "d"})).finalizers() == []


def test_handlers_of_other_notations_guard_the_object_together() -> None:
    """A handler sees what another one wants, however its decorator writes the resource."""
    operator = Operator()
    operator.on.create("example.com", "v1", "things", finalizer="backups", labels={"a": "b"})(
        operator.handler("one")
    )
    operator.on.event("things", finalizer="backups")(operator.handler("two"))
    operator.on.delete("example.com/v1", "things", finalizer="backups")(operator.handler("three"))
    assert operator.cycle(alive()).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(alive(BACKUPS, OWN)).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(deleting(BACKUPS, OWN)).finalizers() == []
    assert operator.calls[-1] == "three"


def test_other_resources_are_left_alone() -> None:
    """An object of a resource without a handler is not touched."""
    operator = Operator()
    operator.on.create("others", finalizer="backups")(operator.handler("other"))
    operator.on.event("things")(operator.handler("event"))
    assert not operator.cycle(alive(BACKUPS)).patch


# Being deleted


def test_finalizer_stays_while_its_cleanup_is_tried_again() -> None:
    """A cleanup that has not succeeded keeps its finalizer, and its progress goes as usual."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    outcome = operator.cycle(deleting(OTHER, BACKUPS, OWN))
    assert operator.calls == ["backups"]
    assert outcome.patch.fns == []
    assert "backups" in annotations_of({"metadata": dict(outcome.patch)["metadata"]})
    assert outcome.finalizers() == [OTHER, BACKUPS, OWN]


def test_finalizer_goes_when_its_cleanup_has_succeeded() -> None:
    """The last cleanup takes its finalizer and Kopf's along; everybody else's stay."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    outcome = operator.cycle(deleting(BACKUPS, OTHER, OWN))
    assert operator.calls == ["backups"]
    assert outcome.finalizers() == [OTHER]


def test_each_finalizer_goes_as_its_own_cleanup_succeeds() -> None:
    """One cleanup that succeeds and one that does not: only the one's finalizer is released."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    outcome = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert annotations_of(outcome.after()) == {"backups", "buckets"}


def test_finished_cleanup_is_not_called_again() -> None:
    """A cleanup whose success is stored is done; its finalizer, should it be back, goes again."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    first = operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).after()
    first["metadata"]["finalizers"].append(BACKUPS)
    operator.calls.clear()
    assert operator.cycle(first).finalizers() == [BUCKETS, OWN]
    assert "backups" not in operator.calls


@pytest.mark.parametrize(
    ("options", "failure", "reason"),
    [
        ({}, NEVER, "no bucket"),
        ({"retries": 1}, kopf.TemporaryError("not yet"), "not yet"),
        ({"errors": kopf.ErrorsMode.PERMANENT}, ValueError("broken"), "broken"),
    ],
)
def test_cleanup_that_is_given_up_lets_go_with_a_warning(
    options: dict[str, Any],
    failure: Exception,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No object is stuck on a cleanup that Kopf will not call again; the log says what is lost."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", **options)(operator.handler("h", failure))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    assert operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).finalizers() == [BUCKETS, OWN]
    (warning,) = [m for m in messages(caplog) if "given up" in m]
    assert warning.startswith("The cleanup h is given up and has not succeeded:")
    assert reason in warning
    assert warning.endswith(f"{BACKUPS} no longer waits for it. [given-up]")


def test_cleanup_that_succeeds_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    """Where all is well the log says nothing."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.cycle(deleting(BACKUPS, OWN))
    assert messages(caplog) == []


@pytest.mark.parametrize("kind", ["create", "event", "update", "resume"])
def test_finalizer_without_a_cleanup_goes_as_soon_as_the_object_is_being_deleted(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A finalizer that waits for nothing is released at once, and without a warning."""
    operator = Operator()
    getattr(operator.on, kind)("things", finalizer="backups")(operator.handler("h"))
    operator.on.delete("things")(operator.handler("plain", LATER))
    assert operator.cycle(deleting(BACKUPS, OWN)).finalizers() == [OWN]
    assert messages(caplog) == []


def test_cleanup_of_another_object_is_not_waited_for() -> None:
    """An object that the cleanup's filters do not match waits for nothing."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", labels={"a": "b"})(operator.handler("h"))
    operator.on.delete("things")(operator.handler("plain", LATER))
    assert operator.cycle(deleting(BACKUPS, OWN, labels={"a": "c"})).finalizers() == [OWN]
    assert operator.calls == ["plain"]


def test_nothing_is_added_to_an_object_being_deleted() -> None:
    """An object that was deleted before it was seen gets no finalizer: none can be added."""
    operator = Operator()
    operator.on.create("things", finalizer="buckets")(operator.handler("created"))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    assert operator.cycle(deleting(OTHER)).finalizers() == [OTHER]
    assert operator.calls == []


def test_finalizer_goes_with_kopfs_own_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Without Kopf's own finalizer no cleanup is called any more: so none is waited for."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", id="one")(operator.handler("backups"))
    assert operator.cycle(deleting(BACKUPS, OTHER)).finalizers() == [OTHER]
    assert operator.calls == []
    (warning,) = messages(caplog)
    assert warning.startswith(f"Releasing {BACKUPS} though its cleanup has not succeeded: one.")
    assert f"Kopf's own finalizer, {OWN}, is not on the object" in warning


def test_finalizer_of_a_finished_cleanup_goes_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kopf's own finalizer may be gone because all is done."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    done = {f"{PREFIX}/backups": record(success=True, purpose="delete")}
    assert operator.cycle(deleting(BACKUPS, annotations=done)).finalizers() == []
    assert messages(caplog) == []


def test_finalizer_that_a_handler_has_released_is_not_released_twice() -> None:
    """What a handler has put on the patch by hand is not sent where it is declared."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))

    @operator.finalizers.on.event("things")
    def release(patch: kopf.Patch, **_: Any) -> None:
        remove_finalizer(patch, BACKUPS)

    first = operator.cycle(deleting(BACKUPS, OWN))
    for outcome in (first, operator.cycle(deleting(BACKUPS, OWN), leftover=first.patch)):
        removals = [fn for fn in outcome.patch.fns if isinstance(fn, RemoveFinalizer)]
        assert [fn.name for fn in removals] == [BACKUPS]
        assert outcome.finalizers() == []


def test_a_handler_does_not_release_what_a_handler_declares() -> None:
    """It would be put on again in each cycle, and changes be handled in none of them."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    for purpose in ("backups", BACKUPS):
        with pytest.raises(ConfigurationError, match=r"declared by created, so it goes by itself"):
            operator.finalizers.remove(kopf.Patch(), purpose)
    operator.finalizers.remove(kopf.Patch(), "snapshots")


def test_finalizer_waits_for_each_id_of_one_cleanup() -> None:
    """One function that is two cleanups under one finalizer is waited for twice."""
    operator = Operator()
    cleanup = operator.handler("cleanup", None, LATER, None)
    operator.on.delete("things", finalizer="backups", id="one")(cleanup)
    operator.on.delete("things", finalizer="backups", id="two")(cleanup)
    first = operator.cycle(deleting(BACKUPS, OWN))
    assert first.finalizers() == [BACKUPS, OWN]
    assert operator.calls == ["cleanup", "cleanup"]
    body = first.after()
    key = f"{PREFIX}/two"
    body["metadata"]["annotations"][key] = record(purpose="delete")  # its time has come
    assert operator.cycle(body).finalizers() == []
    assert operator.calls == ["cleanup"] * 3


def test_event_of_an_object_that_is_gone_does_nothing() -> None:
    """The last event shows the finalizers that were removed last: nothing is done about them."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("deleted"))
    for body in (deleting(BACKUPS, OWN), deleting(), alive(BACKUPS, OWN)):
        assert operator.cycle(body, type="DELETED").patch.fns == []
    assert operator.calls == []


# A whole life


@pytest.mark.parametrize("storages", [True, False])
def test_object_lives_and_goes(storages: bool) -> None:
    """From creation to the end, every handler is called as often as it has to be."""
    operator = Operator(storages=storages)
    again = kopf.TemporaryError("not yet", delay=0)
    operator.on.create("things", finalizer="backups")(operator.handler("created", again, None))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", again, None))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets"))
    operator.on.delete("things")(operator.handler("plain", again, again, None))
    body = operator.settle(alive(OTHER))
    assert operator.calls == ["created", "created"]
    assert body["metadata"]["finalizers"] == [OTHER, BACKUPS, BUCKETS, OWN]
    operator.calls.clear()
    body = operator.settle(deleted(body))
    assert sorted(operator.calls) == sorted(["backups"] * 2 + ["buckets"] + ["plain"] * 3)
    assert body["metadata"]["finalizers"] == [OTHER]


def test_finished_sub_handlers_of_a_creation_are_none_of_a_cleanup() -> None:
    """A function that handles both, and its sub-handlers, begin anew when the object goes."""
    operator = Operator()

    def both(reason: str, **_: Any) -> None:
        failures = {"dns": [LATER]} if reason == "create" else {}
        for name in ("bucket", "dns"):
            handler = operator.handler(f"{name} {reason}", *failures.get(name, []))
            kopf.subhandler(id=name)(handler)

    operator.on.create("things", id="both")(both)
    operator.on.delete("things", id="both", finalizer="backups")(both)
    body = operator.cycle(operator.cycle(alive()).after()).after()
    assert operator.calls == ["bucket create", "dns create"]
    operator.settle(deleted(body))
    assert operator.calls[2:] == ["bucket delete", "dns delete"]


def test_success_of_a_creation_is_no_end_of_a_cleanup() -> None:
    """A function that handles creations too has one id for both, and is called for the deletion."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("both"))
    done = {f"{PREFIX}/both": record(success=True, purpose="create")}
    outcome = operator.cycle(deleting(BACKUPS, OWN, annotations=done))
    assert operator.calls == ["both"]
    assert outcome.finalizers() == []
