"""Objects that are made with the former finalizer on them, by a chart, GitOps or code."""

import pytest

from ..support.operators import KOPF_DEFAULT, MAIN
from ..support.rollouts import Rollout, wait_for_the_next_second
from ..support.servers import wait_until

OLD = "mycompany.com/old-backups"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if message.endswith("[born-former]")]


def test_objects_that_are_made_with_the_former_name_are_warned_of(
    rollout: Rollout, caplog: pytest.LogCaptureFixture
) -> None:
    """In the release that replaces it, once; not in the one that writes it, nor of older ones."""
    with rollout.running("recognise"):
        wait_for_the_next_second()
        rollout.create("old", KOPF_DEFAULT)
        wait_until(lambda: rollout.called("create", "old"))
    assert told(caplog) == []
    with rollout.running("switch"):
        wait_until(lambda: rollout.carries("old", MAIN))
        assert told(caplog) == []
        wait_for_the_next_second()
        for name in ("new", "newer"):
            rollout.create(name, KOPF_DEFAULT)
        for name in ("new", "newer"):
            wait_until(lambda name=name: rollout.carries(name, MAIN))  # type: ignore[misc]
    (message,) = told(caplog)
    assert KOPF_DEFAULT in message
    assert "/new" in message
