"""Operators in one release of a rename, and objects for their cycles."""

import itertools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import kopf
import pytest

from kopf_finalizers import Finalizers, OperatorIdentity

from .kopf_cycles import CycledOperator

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")
NEW = "mycompany.com/db-operator"
KOPF = "kopf.zalando.org/KopfFinalizerMarker"
OTHER = "other.org/f"
BACKUPS = f"{NEW}.backups"
OLD_BACKUPS = "mycompany.com/old-backups"
OWN_PLACE = "db-operator.mycompany.com"
KOPFS_PLACE = "kopf.zalando.org"
LONG_AGO = "2020-01-01T00:00:00Z"
ROLLOUTS = ["recognise", "switch"]


class Operator(CycledOperator):
    """An operator in one release, and what its handlers were called for."""

    def __init__(self, *, handlers: str = "create update delete", **options: Any) -> None:
        super().__init__()
        self.failing: Exception | None = None
        for kind in handlers.split():
            getattr(kopf.on, kind)("things", id=kind, registry=self.registry)(self.noting(kind))
        self.finalizers: Finalizers | None = None
        if options:
            self.finalizers = Finalizers(IDENTITY, registry=self.registry, **options)
            self.finalizers.apply(self.settings)

    def noting(self, kind: str) -> Callable[..., None]:
        def handler(retry: int, **_: Any) -> None:
            self.calls.append((kind, retry))
            if self.failing is not None:
                raise self.failing

        return handler

    def called(self, kind: str) -> int:
        return sum(1 for what, _ in self.calls if what == kind)


class Busy(Operator):
    """An operator with two handlers of each kind, of which the second is busy for a while."""

    def __init__(self, busy: str = "", **options: Any) -> None:
        super().__init__(handlers="", **options)
        for kind, name in itertools.product(["create", "update", "delete"], ["one", "two"]):
            is_busy = name == "two" and kind in busy.split()
            handler = self.noting_unless(f"{kind} {name}", is_busy=is_busy)
            getattr(kopf.on, kind)("things", id=f"{kind}_{name}", registry=self.registry)(handler)

    def noting_unless(self, what: str, *, is_busy: bool) -> Callable[..., None]:
        def handler(retry: int, **_: Any) -> None:
            self.calls.append((what, retry))
            if is_busy:
                raise kopf.TemporaryError("busy", delay=0)

        return handler


class WritingBothPlaces(Operator):
    """The first release of a rename as this library had it up to 0.1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        persistence = self.settings.persistence
        persistence.progress_storage = kopf.MultiProgressStorage(
            [
                kopf.AnnotationsProgressStorage(prefix=OWN_PLACE, v1=False),
                kopf.AnnotationsProgressStorage(prefix=KOPFS_PLACE),
            ]
        )
        persistence.diffbase_storage = kopf.MultiDiffBaseStorage(
            [
                kopf.AnnotationsDiffBaseStorage(prefix=OWN_PLACE, v1=False),
                kopf.AnnotationsDiffBaseStorage(prefix=KOPFS_PLACE),
            ]
        )


def thing(
    *finalizers: str, annotations: Mapping[str, str] | None = None, **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {
            "name": "one",
            "namespace": "default",
            "uid": "1-2",
            "resourceVersion": "1",
            "creationTimestamp": LONG_AGO,
            **({"finalizers": list(finalizers)} if finalizers else {}),
            **({"annotations": dict(annotations)} if annotations else {}),
            **metadata,
        },
        "spec": {"size": 1},
    }


def handled_by_plain_kopf(*finalizers: str, size: int = 1) -> dict[str, Any]:
    """An object as an operator with Kopf's default names leaves it."""
    state = json.dumps({"spec": {"size": size}})
    return thing(*finalizers, annotations={f"{KOPFS_PLACE}/last-handled-configuration": state})


def annotations_of(body: dict[str, Any]) -> dict[str, str]:
    return dict(body["metadata"].get("annotations", {}))


def places_of(body: dict[str, Any]) -> set[str]:
    return {key.partition("/")[0] for key in annotations_of(body)}


def deleted(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": LONG_AGO}}


def edited(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "spec": {"size": body["spec"]["size"] + 1}}


def unchanged(body: dict[str, Any]) -> dict[str, Any]:
    return body


def info_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    return [line for line in lines if line.startswith("Moving")]


# What happens to an object that is alive


# Dedicated finalizers


def handled(*finalizers: str) -> dict[str, Any]:
    state = json.dumps({"spec": {"size": 1}})
    return thing(*finalizers, annotations={f"{OWN_PLACE}/last-handled-configuration": state})
