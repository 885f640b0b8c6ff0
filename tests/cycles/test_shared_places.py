"""Records in Kopf's default places, where any Kopf operator may have its own."""

import logging
from typing import Any

import kopf
import pytest

from ..support.renamed import KOPF, Operator, thing


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "[shared-place]" in record.getMessage()
    ]


ANNOTATED = kopf.AnnotationsDiffBaseStorage()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"storages": False}, "its progress and last states in"),
        ({"storages": False, "watches_only": True}, "its progress and last states in"),
        ({"storages": False, "former": [KOPF]}, "its progress and last states in"),
        ({"diffbase_storage": ANNOTATED}, "its last states in"),
        ({"diffbase_storage": ANNOTATED, "watches_only": True}, "(kopf.zalando.org)"),
        ({"progress_storage": kopf.SmartProgressStorage()}, "its progress in"),
        ({"progress_storage": kopf.StatusProgressStorage()}, "(status.kopf.progress)"),
        ({"diffbase_storage": kopf.StatusDiffBaseStorage()}, "its last states in"),
        (
            {"diffbase_storage": ANNOTATED, "former_storage_prefix": "acme.example.com"},
            "its last states in",
        ),
    ],
)
def test_records_in_a_place_that_any_operator_may_have_are_warned_of(
    caplog: pytest.LogCaptureFixture, options: Any, said: str
) -> None:
    """Once, in whichever way the operator has come to it."""
    operator = Operator(handlers="create update", **options)
    operator.settle(operator.settle(thing()))
    (message,) = told(caplog)
    assert said in message


@pytest.mark.parametrize(
    "options",
    [
        {"strict": False},
        {"watches_only": True},
        {"former": [KOPF]},
        {"former": [KOPF], "rollout": "recognise"},  # it is the former place, and left in the next
        {"diffbase_storage": kopf.AnnotationsDiffBaseStorage(prefix="acme.example.com")},
        {"progress_storage": kopf.StatusProgressStorage(name="mine")},
    ],
)
def test_records_in_a_place_of_the_operators_own_are_nobodys_else(
    caplog: pytest.LogCaptureFixture, options: Any
) -> None:
    """Nor are those that are on their way to it."""
    Operator(handlers="create update", **options).settle(thing())
    assert told(caplog) == []
