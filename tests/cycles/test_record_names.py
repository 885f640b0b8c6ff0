"""Which annotations are an operator's records, by their names."""

from typing import Any

import kopf
import pytest

from kopf_finalizers import Finalizers

from ..support.renamed import (
    IDENTITY,
    KOPF,
    KOPFS_PLACE,
    OWN_PLACE,
    Busy,
    Operator,
    annotations_of,
    handled_by_plain_kopf,
    thing,
)

ACME = "acme.example.com"
GIVEN: dict[str, Any] = {
    "progress_storage": kopf.AnnotationsProgressStorage(prefix=ACME, v1=False),
    "diffbase_storage": kopf.AnnotationsDiffBaseStorage(prefix=ACME, key="last", v1=False),
}


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"strict": False}, OWN_PLACE),
        ({"former": [KOPF]}, OWN_PLACE),
        ({"former": [KOPF], "rollout": "recognise"}, KOPFS_PLACE),
        (GIVEN, ACME),
    ],
)
@pytest.mark.parametrize("kind", ["Thing", "ReplicaSet"])
def test_all_that_is_written_is_a_record(options: Any, place: str, kind: str) -> None:
    """In each release, and where a storage is given, of each kind of object."""
    operator = Busy(busy="create", **options)
    body = operator.step(operator.step({**thing(), "kind": kind}))
    annotations = annotations_of(body) | annotations_of(
        Busy(**options).settle({**thing(), "kind": kind})
    )
    patch = kopf.Patch()
    progress = operator.settings.persistence.progress_storage
    progress.touch(body=kopf.Body({"metadata": {}}), patch=patch, value="again")
    written = [*annotations, *patch.metadata.annotations]
    assert operator.finalizers is not None
    assert {key.partition("/")[0] for key in written} == {place}
    assert len(written) >= 4
    assert [key for key in written if not operator.finalizers.is_record(key)] == []


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (f"{OWN_PLACE}/anything", True),
        (f"{KOPFS_PLACE}/last-handled-configuration", True),
        (f"{KOPFS_PLACE}/kopf-managed", True),
        (f"{KOPFS_PLACE}/create", True),
        (f"{KOPFS_PLACE}/create.sub", True),
        (f"{KOPFS_PLACE}/create-ofDRS", True),
        (f"{KOPFS_PLACE}/creator", False),
        (f"{KOPFS_PLACE}/team", False),
        (f"{OWN_PLACE}.example.com/note", False),
        (f"{ACME}/kopf-managed", False),
        ("team", False),
    ],
)
def test_what_is_in_a_former_place_is_told_by_its_name(annotation: str, expected: bool) -> None:
    """There users may have annotations of their own."""
    operator = Operator(former=[KOPF])
    assert operator.finalizers is not None
    assert operator.finalizers.is_record(annotation) is expected


def test_records_in_storages_of_the_operators_own_are_known_when_it_runs() -> None:
    """With `storages=False` nobody says before where they are."""
    operator = Operator(storages=False, former=["old.org/f"])
    body = operator.settle(handled_by_plain_kopf("old.org/f"))
    assert operator.finalizers is not None
    assert all(map(operator.finalizers.is_record, annotations_of(body)))


def test_an_operator_that_does_not_run_yet_knows_the_places_that_it_has_said() -> None:
    """A test of code that copies annotations needs no cluster."""
    finalizers = Finalizers(IDENTITY, registry=kopf.OperatorRegistry(), former=[KOPF])
    assert finalizers.is_record(f"{KOPFS_PLACE}/last-handled-configuration")
    assert not finalizers.is_record(f"{KOPFS_PLACE}/team")
