"""Objects that are made with a former name on them: who is told, and which name is written."""

from typing import Any

import kopf
import pytest

from kopf_finalizers import Finalizers

from ..support.renamed import (
    BACKUPS,
    IDENTITY,
    KOPF,
    NEW,
    OLD_BACKUPS,
    ROLLOUTS,
    Operator,
    thing,
)

LATER = "2999-01-01T00:00:00Z"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if message.endswith("[born-former]")]


@pytest.mark.parametrize(
    ("options", "born", "warned"),
    [
        ({"former": [KOPF]}, {"creationTimestamp": LATER}, [KOPF]),
        ({"former": ["old.org/f", KOPF]}, {"creationTimestamp": LATER}, [KOPF]),
        ({"former": [KOPF]}, {}, []),
        ({"former": [KOPF], "former_is_shared": True}, {"creationTimestamp": LATER}, []),
        ({"former": [KOPF], "rollout": "recognise"}, {"creationTimestamp": LATER}, []),
    ],
)
def test_an_object_that_is_younger_than_the_process_was_made_with_the_former_name(
    caplog: pytest.LogCaptureFixture, options: Any, born: dict[str, Any], warned: list[str]
) -> None:
    """Where this release would not have put it on, and nobody else either."""
    operator = Operator(former_storage_prefix="kopf.zalando.org", **options)
    for uid in ("1", "2"):
        operator.settle(thing(KOPF, uid=uid, **born))
    assert [name for name in warned if name in "".join(told(caplog))] == warned
    assert len(told(caplog)) == len(warned)


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_a_former_dedicated_finalizer_is_warned_of_too(
    caplog: pytest.LogCaptureFixture, rollout: str
) -> None:
    """In the release that replaces it; the one before writes it itself."""
    operator = Operator(former_dedicated={"backups": [OLD_BACKUPS]}, rollout=rollout)

    assert operator.finalizers is not None
    drop = operator.noting("backups")
    operator.finalizers.on.delete("things", id="backups", finalizer="backups")(drop)
    there = OLD_BACKUPS if rollout == "switch" else BACKUPS
    operator.settle(thing(NEW, there, creationTimestamp=LATER))
    assert [OLD_BACKUPS in one for one in told(caplog)] == ([True] if rollout == "switch" else [])


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, NEW),
        ({"former": [KOPF]}, NEW),
        ({"former": ["old.org/f", KOPF], "rollout": "recognise"}, "old.org/f"),
    ],
)
def test_the_name_that_a_release_writes_is_public(options: Any, written: str) -> None:
    """For code that makes objects with it."""
    prefix: dict[str, Any] = {"former_storage_prefix": "kopf.zalando.org"} if options else {}
    finalizers = Finalizers(IDENTITY, registry=kopf.OperatorRegistry(), **prefix, **options)
    assert finalizers.written == written
