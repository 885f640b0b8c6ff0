"""An operator that is adopted without a word of where its records are: they are looked for."""

import functools
import json
import logging
from typing import Any

import kopf
import pytest

from ..support.operators import KOPF_DEFAULT, MAIN, Operator, running
from ..support.servers import Api, Resource, Server, wait_until

ACME = "acme.example.com"
OLD = "acme.example.com/finalizer"

CASES: dict[str, tuple[str, str, str, dict[str, Any], dict[str, Any]]] = {
    # its finalizer, its progress, its last states with their key, what is said wrong, and right
    "a name that is kept": (
        MAIN,
        "kopf.zalando.org",
        "kopf.zalando.org/last-handled-configuration",
        {},
        {"former_storage_prefix": "kopf.zalando.org"},
    ),
    "records in two places": (
        OLD,
        ACME,
        "kopf.zalando.org/last-handled-configuration",
        {"former": [OLD], "former_storage_prefix": ACME},
        {"former": [OLD], "former_progress_storage": ACME},
    ),
    "a key of its own": (
        KOPF_DEFAULT,
        ACME,
        "acme.example.com/last",
        {"former": [KOPF_DEFAULT], "former_storage_prefix": ACME},
        {
            "former": [KOPF_DEFAULT],
            "former_storage_prefix": ACME,
            "former_diffbase_storage": kopf.AnnotationsDiffBaseStorage(prefix=ACME, key="last"),
        },
    ),
}


class Life:
    """An operator before its adoption and after it, and what its handlers were called for."""

    def __init__(self, server: Server, api: Api, resource: Resource) -> None:
        self.server, self.api, self.resource = server, api, resource
        self.calls = list[tuple[str, str]]()

    def before(self, finalizer: str, progress: str, state: str) -> Any:
        settings = kopf.OperatorSettings()
        prefix, _, key = state.rpartition("/")
        settings.persistence.finalizer = finalizer
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=progress)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(
            prefix=prefix, key=key
        )
        return self._running(kopf.OperatorRegistry(), settings)

    def adopted(self, **options: Any) -> Any:
        return self._running(Operator(self.resource, **options).registry, kopf.OperatorSettings())

    def _running(self, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings) -> Any:
        things = (self.resource.group, self.resource.version, self.resource.plural)
        for kind in ("create", "update", "delete"):

            def handler(name: str, kind: str = kind, **_: Any) -> None:
                self.calls.append((kind, name))

            getattr(kopf.on, kind)(*things, id=kind, registry=registry)(handler)
        return running(registry, self.server, self.resource, settings=settings)

    def create(self, name: str) -> None:
        self.api.create(self.resource.path, self.resource.body(name)).raise_for_status()

    def edit(self, name: str, size: int) -> None:
        patch = {"spec": {"size": size}}
        self.api.merge_patch(self.resource.path_to(name), patch).raise_for_status()

    def delete(self, name: str) -> None:
        self.api.delete(self.resource.path_to(name)).raise_for_status()

    def is_handled(self, name: str, annotation: str) -> bool:
        body = self.api.get(self.resource.path_to(name)).json()
        state = body["metadata"].get("annotations", {}).get(annotation, "{}")
        return bool(json.loads(state).get("spec") == body["spec"])

    def is_gone(self, name: str) -> bool:
        return self.api.get(self.resource.path_to(name)).status_code == 404


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and record.getMessage().endswith("[unknown-records]")
    ]


@pytest.mark.parametrize("case", CASES)
def test_an_object_handled_before_waits_for_a_word_of_where_its_records_are(
    server: Server,
    api: Api,
    resource: Resource,
    caplog: pytest.LogCaptureFixture,
    case: str,
) -> None:
    """One error names the annotation; deletions go on, and nothing is called twice or lost."""
    finalizer, progress, state, wrong, right = CASES[case]
    life = Life(server, api, resource)
    with life.before(finalizer, progress, state):
        for name in ("kept", "going"):
            life.create(name)
        for name in ("kept", "going"):
            wait_until(functools.partial(life.is_handled, name, state))
    life.edit("kept", 2)
    with life.adopted(strict=True, **wrong):
        life.create("new")
        wait_until(lambda: ("create", "new") in life.calls)
        life.delete("going")
        wait_until(functools.partial(life.is_gone, "going"))
        wait_until(lambda: bool(told(caplog, logging.ERROR)))
    (error,) = told(caplog, logging.ERROR)
    assert state in error
    with life.adopted(strict=True, **right):
        wait_until(lambda: ("update", "kept") in life.calls)
        own = "db-operator.mycompany.com/last-handled-configuration"
        wait_until(functools.partial(life.is_handled, "kept", own))
    assert len(told(caplog, logging.ERROR)) == 1
    assert sorted(life.calls) == [
        ("create", "going"),
        ("create", "kept"),
        ("create", "new"),
        ("delete", "going"),
        ("update", "kept"),
    ]


def test_without_strict_it_is_warned_of_before_it_happens(
    server: Server, api: Api, resource: Resource, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says what to write; `on.create` is called, as plain Kopf does."""
    finalizer, progress, state, wrong, _ = CASES["a name that is kept"]
    life = Life(server, api, resource)
    with life.before(finalizer, progress, state):
        life.create("kept")
        wait_until(functools.partial(life.is_handled, "kept", state))
    seen = list[int]()
    life.calls = _Noting(lambda: seen.append(len(told(caplog, logging.WARNING))))
    with life.adopted(**wrong):
        wait_until(lambda: ("create", "kept") in life.calls)
    assert seen == [1]
    (warning,) = told(caplog, logging.WARNING)
    assert state in warning
    assert 'former_storage_prefix="kopf.zalando.org"' in warning


class _Noting(list[tuple[str, str]]):
    """Calls, each of which is noted elsewhere, too."""

    def __init__(self, note: Any) -> None:
        super().__init__()
        self._note = note

    def append(self, call: tuple[str, str]) -> None:
        self._note()
        super().append(call)
