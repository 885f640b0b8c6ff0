"""Operators with dedicated finalizers, and objects for their cycles."""

import json
import logging
from collections.abc import Callable
from typing import Any

import kopf
import pytest

from kopf_finalizers import Finalizers, OperatorIdentity

from .kopf_cycles import CycledOperator, Outcome
from .servers import Body

OWN = "mycompany.com/db-operator"
BACKUPS = f"{OWN}.backups"
BUCKETS = f"{OWN}.buckets"
OTHER = "other.org/f"

PREFIX = "db-operator.mycompany.com"

LATER = kopf.TemporaryError("not yet", delay=30)
NEVER = kopf.PermanentError("no bucket")


class Operator(CycledOperator):
    """An operator with the library, and what its handlers were called for."""

    def __init__(self, *, apply: bool = True, **options: Any) -> None:
        super().__init__()
        self._apply = apply
        identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
        self.finalizers = Finalizers(identity, registry=self.registry, **options)

    @property
    def on(self) -> Any:
        return self.finalizers.on

    def handler(self, name: str, *failures: Exception | None) -> Callable[..., None]:
        """A handler that notes its calls, and fails as told: in the last way for ever."""
        left = list(failures)

        def handle(**_: Any) -> None:
            self.calls.append(name)
            failure = left.pop(0) if len(left) > 1 else next(iter(left), None)
            if failure is not None:
                raise failure

        handle.__qualname__ = name
        return handle

    def start(self) -> None:
        if self._apply:
            self.finalizers.apply(self.settings)
            self._apply = False


def alive(*finalizers: str, **metadata: Any) -> Body:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {
            "name": "t",
            "namespace": "default",
            "uid": "1-2",
            **({"finalizers": list(finalizers)} if finalizers else {}),
            **metadata,
        },
        "spec": {"size": 1},
    }


def deleting(*finalizers: str, **metadata: Any) -> Body:
    return alive(*finalizers, deletionTimestamp="2030-01-01T00:00:00Z", **metadata)


def deleted(body: Body) -> Body:
    """The object when somebody has asked for its deletion."""
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": "2030-01-01T00:00:00Z"}}


def record(**fields: Any) -> str:
    """A handler's progress as Kopf writes it."""
    return json.dumps({"started": "2030-01-01T00:00:00+00:00", "retries": 1, **fields})


def annotations_of(body: Body) -> set[str]:
    names = body["metadata"].get("annotations") or {}
    return {name.removeprefix(f"{PREFIX}/") for name in names} - {"kopf-managed", "records-of"}


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [
        found.getMessage()
        for found in caplog.records
        if found.name == "cycle" and found.levelno == level
    ]


def leftover(*fns: Any) -> kopf.Patch:
    """What Kopf has kept of the cycle before."""
    return kopf.Patch(fns=fns)


def touched(outcome: Outcome) -> bool:
    """Whether Kopf is made to come back."""
    return "touch-dummy" in annotations_of(outcome.after())
