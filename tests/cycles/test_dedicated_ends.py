"""How a cleanup ends that does not succeed, and how long it is known to have ended."""

import logging
from typing import Any, cast

import kopf
import pytest

from ..support.dedicated import (
    BACKUPS,
    BUCKETS,
    LATER,
    OTHER,
    OWN,
    PREFIX,
    Operator,
    alive,
    annotations_of,
    deleting,
    messages,
    record,
)


def two_cleanups(*failures: Exception | None) -> Operator:
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", *failures))
    return operator


def without(body: Any, *names: str) -> Any:
    """The object when somebody else has taken finalizers off."""
    left = [name for name in body["metadata"]["finalizers"] if name not in names]
    return {**body, "metadata": {**body["metadata"], "finalizers": left}}


def test_finalizer_that_is_taken_off_by_hand_ends_its_cleanup_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever releases one need not release the operator's own, which would end them all."""
    operator = two_cleanups(LATER, None)
    body = operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).after()
    assert operator.calls == ["backups", "buckets"]
    key = f"{PREFIX}/buckets"
    body["metadata"]["annotations"][key] = record(purpose="delete")  # its time has come
    outcome = operator.cycle(without(body, BACKUPS))
    assert operator.calls == ["backups", "buckets", "buckets"]
    assert outcome.finalizers() == []
    (warning,) = messages(caplog)
    assert warning.startswith(f"Somebody else has taken {BACKUPS} off")
    assert "its cleanup is given up, backups" in warning


def test_cleanup_that_was_ended_by_hand_is_ended_after_a_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That is stored, as if Kopf had given it up; and told once."""
    operator = two_cleanups(LATER)
    body = operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).after()
    body = operator.cycle(without(body, BACKUPS)).after()
    assert "backups" in annotations_of(body)
    operator.cycle(body)
    assert len(messages(caplog)) == 1
    again = two_cleanups(LATER)
    again.cycle(body)
    assert again.calls == []


def test_finalizer_that_was_never_seen_says_nothing() -> None:
    """It may be one of a new release, or was taken off while no operator ran: it is called."""
    operator = two_cleanups(LATER)
    operator.cycle(deleting(BUCKETS, OWN))
    assert operator.calls == ["backups", "buckets"]


def test_finalizer_that_the_operator_took_off_itself_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cleanup that has succeeded has not been given up."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    operator.on.create("things", finalizer="dns")(operator.handler("created"))
    body = operator.cycle(deleting(BACKUPS, BUCKETS, f"{OWN}.dns", OWN)).after()
    assert body["metadata"]["finalizers"] == [BUCKETS, OWN]
    operator.cycle(body)
    assert messages(caplog) == []


def test_finalizer_that_nobody_waited_for_may_be_taken_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where no cleanup is to be done, none is given up."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", labels={"a": "b"})(operator.handler("h"))
    operator.on.delete("things")(operator.handler("plain", LATER))
    body = deleting(BACKUPS, OWN, OTHER)
    operator.cycle(body)
    assert operator.cycle(without(body, BACKUPS)).finalizers() == [OWN, OTHER]
    assert messages(caplog) == []


def test_cleanup_that_has_begun_and_no_longer_matches_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody has changed a label during the deletion: what it has begun is left as it is."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", labels={"a": "b"})(
        operator.handler("backups", LATER)
    )
    operator.on.delete("things")(operator.handler("plain", LATER))
    body = operator.cycle(deleting(BACKUPS, OWN, labels={"a": "b"})).after()
    body["metadata"]["labels"] = {"a": "c"}
    assert operator.cycle(body).finalizers() == [OWN]
    (warning,) = messages(caplog)
    assert warning.startswith(f"Releasing {BACKUPS} though its cleanup has begun")
    assert "backups" in warning


@pytest.mark.parametrize("kind", ["daemon", "timer"])
def test_progress_of_cleanups_is_kept_where_daemons_may_still_stop(kind: str) -> None:
    """Kopf forgets it with the last cleanup, and would call them again until a daemon ends."""
    operator = Operator()
    options: dict[str, Any] = {"interval": 60} if kind == "timer" else {}
    getattr(operator.on, kind)("things", **options)(operator.handler("daemon"))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    superseded = {f"{PREFIX}/backups": record(purpose="create")}
    body = operator.cycle(deleting(BACKUPS, OTHER, OWN, annotations=superseded)).after()
    assert operator.calls == ["backups"]
    assert "backups" in annotations_of(body)
    body["metadata"]["finalizers"].append(OWN)  # the daemon has not stopped yet
    again = Operator()
    getattr(again.on, kind)("things", **options)(again.handler("daemon"))
    again.on.delete("things", finalizer="backups")(again.handler("backups"))
    assert again.cycle(body).finalizers() == [OTHER]
    assert again.calls == []


def test_success_that_could_not_be_stored_is_not_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kopf has given the patch up: the object is as it was, and the cleanup was done."""
    caplog.set_level(logging.INFO)
    operator = two_cleanups(None)
    body = deleting(BACKUPS, BUCKETS, OWN)
    operator.cycle(body)
    outcome = operator.cycle(body)
    assert operator.calls == ["backups", "buckets", "backups"]
    assert outcome.finalizers() == [BACKUPS, OWN]
    storage = operator.settings.persistence.progress_storage
    key = cast("kopf.HandlerId", "buckets")
    found = storage.fetch(key=key, body=kopf.Body(cast("kopf.RawBody", body)))
    assert found is not None
    assert found["success"]


def undeclared(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one.getMessage() for one in caplog.records if one.name == "kopf_finalizers"]
    return [one for one in found if one.startswith("No handler declares")]


def test_finalizer_that_no_handler_declares_is_warned_about_on_objects_that_hang(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler was taken out: its objects hang when they are deleted, and are named once."""
    operator = two_cleanups(LATER)
    dns = f"{OWN}.dns"
    operator.cycle(deleting(OTHER, dns, BACKUPS, OWN))
    operator.cycle(deleting(dns, OWN, name="another"))
    (warning,) = undeclared(caplog)
    assert dns in warning
    assert "Thing default/t" in warning


def test_finalizers_that_somebody_looks_after_are_not_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those of handlers, those that are declared or changed by hand, and all on living objects."""
    operator = two_cleanups(LATER)
    operator.finalizers.declare("dns", "things")
    operator.finalizers.remove(kopf.Patch(), "disks")
    operator.cycle(alive(f"{OWN}.unknown", BACKUPS, BUCKETS, OWN))
    operator.cycle(deleting(f"{OWN}.dns", f"{OWN}.disks", BACKUPS, OTHER, OWN, uid="3-4"))
    assert undeclared(caplog) == []


@pytest.mark.parametrize("storages", [True, False])
def test_finalizer_of_an_operator_without_dedicated_ones_is_warned_about_too(
    storages: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The last dedicated cleanup may be the one that was taken out."""
    operator = Operator(storages=storages)
    operator.on.delete("things")(operator.handler("plain", LATER))
    operator.cycle(deleting(BACKUPS, OWN))
    assert len(undeclared(caplog)) == 1
