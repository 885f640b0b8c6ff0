"""Operators that had their records in two places, or in storages with options of their own."""

import json
import logging
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import ConfigurationError, Finalizers

from ..support.kopf_cycles import cycle, finalizers_of, start
from ..support.renamed import (
    IDENTITY,
    KOPF,
    KOPFS_PLACE,
    NEW,
    OWN_PLACE,
    ROLLOUTS,
    Busy,
    annotations_of,
    deleted,
    edited,
    places_of,
    thing,
)

OLD = "acme.example.com/finalizer"
ACME = "acme.example.com"


def annotated(**options: Any) -> dict[str, Any]:
    return {
        "progress": kopf.AnnotationsProgressStorage(prefix=ACME),
        "diffbase": kopf.AnnotationsDiffBaseStorage(**options),
    }


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "progress elsewhere": (
        {"progress": kopf.AnnotationsProgressStorage(prefix=ACME)},
        {"former_progress_storage": ACME},
    ),
    "last states elsewhere": (
        {"diffbase": kopf.AnnotationsDiffBaseStorage(prefix=ACME)},
        {"former_diffbase_storage": ACME},
    ),
    "both said, and a key": (
        {
            "progress": kopf.AnnotationsProgressStorage(prefix="progress.acme.example.com"),
            "diffbase": kopf.AnnotationsDiffBaseStorage(prefix=ACME, key="last"),
        },
        {
            "former_storage_prefix": "progress.acme.example.com",
            "former_diffbase_storage": kopf.AnnotationsDiffBaseStorage(prefix=ACME, key="last"),
        },
    ),
    "in the status": (
        {
            "progress": kopf.StatusProgressStorage(name="acme"),
            "diffbase": kopf.StatusDiffBaseStorage(name="acme"),
        },
        {
            "former_progress_storage": kopf.StatusProgressStorage(name="acme"),
            "former_diffbase_storage": kopf.StatusDiffBaseStorage(name="acme"),
        },
    ),
}


def before(busy: str, had: dict[str, Any]) -> Busy:
    """The operator without the library."""
    operator = Busy(busy=busy)
    operator.settings.persistence.finalizer = OLD
    if "progress" in had:
        operator.settings.persistence.progress_storage = had["progress"]
    if "diffbase" in had:
        operator.settings.persistence.diffbase_storage = had["diffbase"]
    return operator


@pytest.mark.parametrize("kind", ["create", "update", "delete"])
@pytest.mark.parametrize("where", KINDS)
@pytest.mark.parametrize(
    "path", [["recognise", "switch", "done"], ["switch", "recognise", "before"]], ids=str
)
def test_records_of_two_places_move_in_all_releases(kind: str, where: str, path: list[str]) -> None:
    """Nothing that has succeeded is called again, and retries go on counting, on the way back too.

    What waits goes on under its new name as soon as it is tried.
    """
    had, said = KINDS[where]
    body = thing() if kind == "create" else before("", had).settle(thing())
    body = {"update": edited, "delete": deleted}.get(kind, dict)(body)
    first = before(kind, had)
    for _ in range(2):
        body = first.step(body)
    calls = [*first.calls]
    for stage in path:
        if kind == "delete" and stage == "done":
            break  # it still has the former finalizer: see the page on adopting it
        options: dict[str, Any] = {"former": [OLD], "rollout": stage, **said}
        options = options if stage != "done" else {"former": ()}
        operator = before(kind, had) if stage == "before" else Busy(busy=kind, **options)
        start(operator.registry)
        for _ in range(4):
            body = operator.step(body)
        calls += operator.calls
    twos = [number for what, number in calls if what == f"{kind} two"]
    assert twos == list(range(len(twos)))
    assert calls.count((f"{kind} one", 0)) == 1
    assert len(calls) == len(twos) + 1
    if path[-1] == "done" and kind != "delete":
        assert places_of(body) == {OWN_PLACE}
        assert not body.get("status")


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_fields_that_were_ignored_are_no_change(rollout: str) -> None:
    """Also where the identity's storage does not ignore them; there they count from then on."""
    storage = kopf.AnnotationsDiffBaseStorage(prefix=ACME, ignored_fields=["spec.size"])
    had = {"progress": kopf.AnnotationsProgressStorage(prefix=ACME), "diffbase": storage}
    body = {**thing(), "spec": {"size": 1, "name": "a"}}
    body = {**before("", had).settle(body), "spec": {"size": 2, "name": "a"}}
    options: dict[str, Any] = {
        "former": [OLD],
        "former_progress_storage": ACME,
        "former_diffbase_storage": storage,
        "rollout": rollout,
    }
    operator = Busy(**options)
    start(operator.registry)
    settled = operator.settle(body)
    assert operator.calls == []
    operator.settle({**settled, "spec": {"size": 3, "name": "a"}})
    assert bool(operator.calls) == (rollout == "switch")
    ignoring = kopf.AnnotationsDiffBaseStorage(prefix=OWN_PLACE, ignored_fields=["spec.size"])
    operator = Busy(**options, diffbase_storage=ignoring)
    body = operator.settle({**body, "spec": {"size": 4, "name": "a"}})
    body = operator.settle({**body, "spec": {"size": 5, "name": "a"}})
    assert operator.calls == []
    operator.settle({**body, "spec": {"size": 5, "name": "b"}})
    assert sorted(operator.calls) == [("update one", 0), ("update two", 0)]


def test_the_identitys_place_takes_options_and_says_whose_its_records_are() -> None:
    """A key of one's own is kept where what is not believed is taken away."""
    storage = kopf.AnnotationsDiffBaseStorage(prefix=OWN_PLACE, key="last")
    body = Busy(diffbase_storage=storage).settle(thing())
    assert {key.partition("/")[2] for key in annotations_of(body)} == {
        "kopf-managed", "last", "records-of",
    }  # fmt: skip
    busy = Busy(diffbase_storage=storage, busy="update")
    body = busy.step(edited(body))
    body["metadata"]["uid"] = "3-4"
    operator = Busy(diffbase_storage=storage, busy="update")
    body = operator.step(body)
    assert sorted(operator.calls) == [("update one", 0), ("update two", 0)]
    assert f"{OWN_PLACE}/last" in annotations_of(body)


def test_any_storage_can_be_given_in_place_of_the_identitys() -> None:
    """As Kopf takes it in its settings."""
    progress, diffbase = kopf.StatusProgressStorage(name="a"), kopf.StatusDiffBaseStorage(name="a")
    operator = Busy(progress_storage=progress, diffbase_storage=diffbase)
    assert operator.settings.persistence.progress_storage is progress
    assert operator.settings.persistence.diffbase_storage is diffbase
    body = operator.settle(thing())
    assert finalizers_of(body) == [NEW]
    assert not annotations_of(body)


def test_what_kopf_had_written_to_the_status_moves_from_its_default_place() -> None:
    """Up to Kopf 1.43 its default storage wrote both; later ones read it and take it away."""
    record = {"started": "2020-01-01T00:00:00+00:00", "purpose": "update", "retries": 3}
    state = json.dumps({"spec": {"size": 1}})
    body = edited(thing(KOPF, annotations={f"{KOPFS_PLACE}/last-handled-configuration": state})) | {
        "status": {"kopf": {"progress": {"update_two": record}}, "other": 1}
    }
    operator = Busy(former=[KOPF], busy="update")
    body = operator.step(operator.step(body))
    assert ("update two", 3) in operator.calls
    assert places_of(body) == {OWN_PLACE}
    assert body["status"] == {"other": 1}
    back = Busy(former=[KOPF], rollout="recognise", busy="update")
    body = back.step(body)
    plain = Busy(busy="update")
    plain.step(body)
    numbers = [
        number for what, number in operator.calls + back.calls + plain.calls if "two" in what
    ]
    assert numbers == list(range(3, 3 + len(numbers)))


class InAFile(kopf.DiffBaseStorage):
    """A storage of the operator's own."""

    def fetch(self, **_: Any) -> Any: ...
    def store(self, **_: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"former_progress_storage": 5}, "former_progress_storage=5 must be the prefix"),
        ({"former_diffbase_storage": kopf.StatusProgressStorage()}, "a kopf.DiffBaseStorage"),
        ({"former_diffbase_storage": InAFile()}, "nobody can tell where its records are"),
        ({"former_progress_storage": "a.b/c"}, '"a.b/c" is no prefix'),
        ({"former_progress_storage": ACME, "storages": False}, "leave storages=False out"),
        (
            {"former_diffbase_storage": kopf.StatusDiffBaseStorage(), "storages": False},
            "leave storages=False out",
        ),
        (
            {"former_progress_storage": kopf.StatusProgressStorage(), "storages": False},
            "leave storages=False out",
        ),
        (
            {"former_progress_storage": OWN_PLACE, "former_diffbase_storage": OWN_PLACE},
            "is where the records are to go",
        ),
        ({"progress_storage": ACME}, "must be a kopf.ProgressStorage"),
        ({"diffbase_storage": kopf.StatusProgressStorage()}, "must be a kopf.DiffBaseStorage"),
        (
            {"progress_storage": kopf.StatusProgressStorage(), "storages": False},
            "does not go with storages=False",
        ),
    ],
)
def test_what_is_no_storage_is_refused(options: dict[str, Any], words: str) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        Finalizers(IDENTITY, registry=kopf.OperatorRegistry(), **options)
    assert words in str(caught.value)


def test_one_of_two_places_may_be_the_identitys_already() -> None:
    """Then only the other one moves."""
    options: dict[str, Any] = {
        "former_progress_storage": OWN_PLACE,
        "former_diffbase_storage": ACME,
    }
    had = {
        "progress": kopf.AnnotationsProgressStorage(prefix=OWN_PLACE, v1=False),
        "diffbase": kopf.AnnotationsDiffBaseStorage(prefix=ACME),
    }
    first = before("update", had)
    body = first.step(first.step(edited(before("", had).settle(thing()))))
    operator = Busy(former=[OLD], **options)
    body = operator.settle(body)
    assert operator.calls == [("update two", 2)]
    assert places_of(body) == {OWN_PLACE}


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"storages": False}, ["progress and last states"]),
        ({"diffbase_storage": kopf.AnnotationsDiffBaseStorage()}, ["last states"]),
        ({"former": [KOPF], "rollout": "recognise"}, []),
        ({"progress_storage": kopf.StatusProgressStorage(name="a")}, []),
    ],
)
def test_records_in_kopfs_default_place_are_warned_about(
    options: dict[str, Any], warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Two operators that keep theirs there lose creations, and nobody would know why."""
    operator = Busy(**options)
    start(operator.registry)
    for _ in range(2):
        cycle(operator.registry, operator.settings, thing())
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    found = [line for line in lines if line.startswith("This operator keeps its ")]
    about = [line.removeprefix("This operator keeps its ").split(" in Kopf's")[0] for line in found]
    assert about == warned
    assert cast("Any", operator.finalizers).name == NEW


def test_a_storage_that_is_prepared_may_stand_beside_a_prefix() -> None:
    """And one that is not said is where Kopf has it."""
    finalizers = Finalizers(
        IDENTITY,
        registry=kopf.OperatorRegistry(),
        former_progress_storage=kopf.StatusProgressStorage(name="acme"),
        former_is_shared=True,
    )
    assert cast("Any", finalizers._rename).former_storage_prefix == KOPFS_PLACE
