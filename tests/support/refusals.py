"""Servers that refuse what an operator writes, and what the operator says of it."""

import logging
import threading
from collections.abc import Callable

import kopf
import pytest

from .proxies import Asked, Fate

WORDS = "spec.owner: Required value"


class Refusing:
    """Refuses the patches that a test says, as long as it is on."""

    def __init__(self, status: int, which: Callable[[Asked], bool] = lambda asked: True) -> None:
        self.status = status
        self.which = which
        self.is_on = threading.Event()
        self.refused = list[Asked]()

    def __call__(self, asked: Asked) -> Fate | None:
        if asked.method != "PATCH" or not self.is_on.is_set() or not self.which(asked):
            return None
        self.refused.append(asked)
        return Fate(status=self.status, words=WORDS)


def quick() -> kopf.OperatorSettings:
    """Settings of an operator that gives a request up soon."""
    settings = kopf.OperatorSettings()
    settings.networking.error_backoffs = (0.1,)
    settings.queueing.error_delays = (0.1, 0.1)
    return settings


def warnings(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    found = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    return [one for one in found if words in one]
