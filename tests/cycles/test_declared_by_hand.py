"""A handler that removes a finalizer which another one declares: that is not sent."""

import logging
from typing import Any

import kopf
import pytest

from kopf_finalizers import add_finalizer, remove_finalizer

from ..support.dedicated import BACKUPS, LATER, OTHER, OWN, Operator, alive, deleting, messages


def test_changes_are_handled_though_a_handler_removes_what_another_declares(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The finalizer stays, the rest of the patch goes, and the log says whose it is."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("create"))
    kopf.on.update("things", registry=operator.registry)(operator.handler("update"))

    @operator.finalizers.on.event("things")
    def release(patch: kopf.Patch, **_: Any) -> None:
        remove_finalizer(patch, BACKUPS)
        add_finalizer(patch, f"{OWN}.by-hand")
        patch.metadata["labels"] = {"a": "b"}

    body = operator.step(operator.step(alive()))
    assert body["metadata"]["finalizers"] == [BACKUPS, f"{OWN}.by-hand"]
    assert body["metadata"]["labels"] == {"a": "b"}
    for size in (2, 3):
        body = operator.step({**body, "spec": {"size": size}})
    assert operator.calls == ["create", "update", "update"]
    (error, *_) = messages(caplog, logging.ERROR)
    assert f"has removed {BACKUPS} with remove_finalizer(), and create declares it" in error


def test_a_cleanup_that_removes_its_own_finalizer_is_over_when_it_has_succeeded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not before: an attempt that has failed keeps it on the object."""
    operator = Operator()
    handle = operator.handler("cleanup", LATER, None)

    @operator.finalizers.on.delete("things", finalizer="backups", id="cleanup")
    def cleanup(patch: kopf.Patch, **_: Any) -> None:
        remove_finalizer(patch, BACKUPS)
        handle()

    assert operator.cycle(deleting(OTHER, BACKUPS, OWN)).finalizers() == [OTHER, BACKUPS, OWN]
    assert operator.cycle(deleting(OTHER, BACKUPS, OWN)).finalizers() == [OTHER]
    (_, error) = messages(caplog, logging.ERROR)  # the first one is that of the attempt
    assert "cleanup declares it" in error


def test_what_no_handler_declares_is_removed_by_hand(caplog: pytest.LogCaptureFixture) -> None:
    """Also on a resource where others are declared."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("create"))

    @operator.finalizers.on.event("things")
    def release(patch: kopf.Patch, **_: Any) -> None:
        remove_finalizer(patch, f"{OWN}.by-hand")

    body = operator.step(operator.step(alive(OTHER, f"{OWN}.by-hand")))
    assert body["metadata"]["finalizers"] == [OTHER, BACKUPS]
    assert messages(caplog, logging.ERROR) == []
