"""An operator that had its records in two places, adopted while a creation is tried again."""

import functools
import itertools
from typing import Any

import kopf
import pytest

from ..support.operators import Operator, running
from ..support.servers import Api, Resource, Server, wait_until

ACME = "acme.example.com"
OLD = "acme.example.com/finalizer"
MAIN = "mycompany.com/db-operator"


@pytest.mark.parametrize("elsewhere", ["progress", "last states", "nothing"])
def test_records_of_two_places_are_brought_together(
    server: Server, api: Api, resource: Resource, elsewhere: str
) -> None:
    """No handler that has succeeded is called again, and the retries go on counting.

    So it is, too, where an operator has had a name of its own with Kopf's default storages, and
    keeps that name.
    """
    old = MAIN if elsewhere == "nothing" else OLD
    calls = list[tuple[str, str, int]]()
    ways: dict[str, dict[str, Any]] = {
        "progress": {"former": [OLD], "former_progress_storage": ACME},
        "last states": {"former": [OLD], "former_diffbase_storage": ACME},
        "nothing": {"former_storage_prefix": "kopf.zalando.org"},
    }
    said = ways[elsewhere]

    def release(stage: str) -> tuple[kopf.OperatorRegistry, kopf.OperatorSettings]:
        settings, registry = kopf.OperatorSettings(), kopf.OperatorRegistry()
        if stage == "before":
            settings.persistence.finalizer = old
            if elsewhere == "progress":
                progress = kopf.AnnotationsProgressStorage(prefix=ACME)
                settings.persistence.progress_storage = progress
            elif elsewhere == "last states":
                diffbase = kopf.AnnotationsDiffBaseStorage(prefix=ACME)
                settings.persistence.diffbase_storage = diffbase
        else:
            more = said | {"rollout": stage} if stage != "done" else {}
            registry = Operator(resource, **more).registry
        things = (resource.group, resource.version, resource.plural)
        for kind, number in (("create", 1), ("create", 2), ("delete", 1)):

            def handler(name: str, retry: int, what: str = f"{kind} {number}", **_: Any) -> None:
                calls.append((what, name, retry))
                if what == "create 2" and name == "waiting":
                    raise kopf.TemporaryError("busy", delay=0.3)

            getattr(kopf.on, kind)(*things, id=f"{kind}-{number}", registry=registry)(handler)
        return registry, settings

    def attempts() -> list[int]:
        return [retry for what, name, retry in calls if (what, name) == ("create 2", "waiting")]

    def prefixes_of(name: str) -> set[str]:
        metadata = api.get(resource.path_to(name)).json()["metadata"]
        return {key.partition("/")[0] for key in metadata["annotations"]}

    def is_moved(name: str) -> bool:
        return prefixes_of(name) == {"db-operator.mycompany.com"}

    def carries(name: str, expected: str) -> bool:
        metadata = api.get(resource.path_to(name)).json()["metadata"]
        return list(metadata.get("finalizers", [])) == [expected]

    for stage in ("before", "recognise", "switch", "recognise", "switch", "done"):
        registry, settings = release(stage)
        seen = len(calls)
        with running(registry, server, resource, settings=settings):
            if stage == "before":
                for name in ("handled", "waiting"):
                    api.create(resource.path, resource.body(name)).raise_for_status()
                wait_until(lambda: ("create 2", "handled", 0) in calls)
            written = old if stage in ("before", "recognise") else MAIN
            for name in ("handled", "waiting"):
                wait_until(functools.partial(carries, name, written), what=stage)
                if stage in ("switch", "done"):
                    wait_until(functools.partial(is_moved, name), what=stage)
            wait_until(functools.partial(lambda n: len(calls) > n + 1, seen), what=stage)
    numbers = attempts()
    # As in plain Kopf, an operator may be stopped before it has stored its last attempt.
    assert {after - before for before, after in itertools.pairwise(numbers)} <= {0, 1}
    assert numbers[-1] >= 5
    others = sorted(call for call in calls if call[0] != "create 2")
    assert others == [("create 1", name, 0) for name in ("handled", "waiting")]
