"""A handler that replaces everybody's finalizers: what it has written is not sent."""

import logging
from typing import Any

import kopf
import pytest

from ..support.dedicated import BACKUPS, OTHER, OWN, Operator, alive


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        found.getMessage()
        for found in caplog.records
        if found.name == "kopf_finalizers" and found.levelno == logging.ERROR
    ]


@pytest.mark.parametrize("storages", [True, False])
@pytest.mark.parametrize("beside", ["nothing", "an addition"])
def test_whole_list_is_not_sent_and_the_rest_of_the_patch_is(
    storages: bool, beside: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger's finalizer stays, the handler is done, and the log says what to write instead."""
    operator = Operator(storages=storages)

    @operator.finalizers.on.create("things", finalizer="backups", id="create")
    def create(patch: kopf.Patch, **_: Any) -> None:
        operator.calls.append("create")
        if beside == "an addition":
            operator.finalizers.add(patch, "by-hand")
        patch.metadata["finalizers"] = [OWN]
        patch.metadata["labels"] = {"a": "b"}

    outcome = operator.cycle(alive(OTHER, BACKUPS))
    body = outcome.after()
    expected = [OTHER, BACKUPS] + ([f"{OWN}.by-hand"] if beside == "an addition" else [])
    assert body["metadata"]["finalizers"] == expected
    assert body["metadata"]["labels"] == {"a": "b"}
    (error,) = errors(caplog)
    assert "default/t" in error
    assert "finalizers.add(patch)" in error
    operator.cycle(body)
    assert operator.calls == ["create"]


@pytest.mark.parametrize("storages", [True, False])
def test_whole_list_alone_is_no_patch(storages: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is left to be sent; that holds for an operator without dedicated finalizers, too."""
    operator = Operator(storages=storages)
    kopf.on.event("things", registry=operator.registry)(_writes)
    kopf.on.delete("things", optional=True, registry=operator.registry)(operator.handler("drop"))
    handled = operator.settle(alive(OTHER))
    caplog.clear()
    outcome = operator.cycle(handled)
    assert outcome.patch == {}
    assert outcome.finalizers() == [OTHER]
    assert len(errors(caplog)) == 1


def _writes(patch: kopf.Patch, **_: Any) -> None:
    patch.metadata["finalizers"] = []
