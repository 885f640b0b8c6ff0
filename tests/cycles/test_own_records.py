"""Whose the records on an object are, and which of them are believed."""

import json
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import Finalizers

from ..support.kopf_cycles import after, cycle, finalizers_of
from ..support.renamed import (
    IDENTITY,
    NEW,
    OWN_PLACE,
    Busy,
    annotations_of,
    deleted,
    edited,
    thing,
)

OWNER = f"{OWN_PLACE}/records-of"


class Current(Busy):
    """An operator that has its names: nothing is renamed."""

    def __init__(self, busy: str = "") -> None:
        super().__init__(busy=busy, former=())


def made_again(body: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """The object as it comes back from a backup, or as another one gets its annotations."""
    kept = {**body["metadata"], "uid": "3-4", **metadata}
    kept.pop("deletionTimestamp", None)
    return {**body, "metadata": kept}


def test_an_object_with_records_says_whose_they_are() -> None:
    """Its kind, namespace, name and uid, in the request that writes a record."""
    body = Current().settle(thing())
    assert annotations_of(body)[OWNER] == "Thing/default/one/1-2"


@pytest.mark.parametrize(
    ("metadata", "created"),
    [
        ({"uid": "1-2"}, False),
        ({}, False),
        ({"name": "two"}, True),
        ({"namespace": "other"}, True),
        ({"namespace": None}, True),
    ],
)
def test_a_last_state_is_believed_of_an_object_of_that_name(
    metadata: dict[str, Any], created: bool
) -> None:
    """One that is made again is handled, as in plain Kopf; with copied annotations it is not."""
    body = made_again(Current().settle(thing()), **metadata)
    operator = Current()
    body = operator.settle(body)
    assert [what for what, _ in operator.calls] == (["create one", "create two"] if created else [])
    owner = annotations_of(body)[OWNER]
    assert created == (owner == "/".join(["Thing", *name_of(body), "3-4"]))


def name_of(body: dict[str, Any]) -> list[str]:
    return [body["metadata"].get(key) or "" for key in ("namespace", "name")]


def test_a_last_state_of_another_kind_is_not_believed() -> None:
    """Operators copy annotations to the objects that they make."""
    body = {**made_again(Current().settle(thing())), "kind": "Other"}
    operator = Current()
    operator.settle(body)
    assert operator.called("create one") == 1


@pytest.mark.parametrize("kind", ["create", "update"])
@pytest.mark.parametrize("metadata", [{}, {"name": "two"}])
def test_progress_of_another_object_is_not_believed_and_goes(
    kind: str, metadata: dict[str, str]
) -> None:
    """With the first write: from then on the records say that they are this object's."""
    body = thing() if kind == "create" else edited(Current().settle(thing()))
    busy = Current(busy=kind)
    body = made_again(busy.step(busy.step(body)), **metadata)
    assert f"{OWN_PLACE}/{kind}_one" in annotations_of(body)
    operator = Current()
    body = operator.settle(body)
    expected = "create" if metadata else kind
    assert operator.calls == [(f"{expected} one", 0), (f"{expected} two", 0)]
    assert {key.partition("/")[2] for key in annotations_of(body)} == {
        "kopf-managed",
        "last-handled-configuration",
        "records-of",
    }


def test_a_cleanup_that_was_done_before_a_backup_is_called_again() -> None:
    """And one that waits is not tried later than it would be otherwise."""
    busy = Current(busy="delete")
    body = busy.step(deleted(Current().settle(thing())))
    assert f"{OWN_PLACE}/delete_one" in annotations_of(body)
    operator = Current()
    body = operator.settle(made_again(body))
    assert operator.calls == []
    body = operator.settle(deleted(body))
    assert operator.calls == [("delete one", 0), ("delete two", 0)]
    assert finalizers_of(body) == []


def test_progress_of_a_deletion_is_none_of_an_object_that_is_alive() -> None:
    """Records that do not say whose they are, of a library that did not write that."""
    record = json.dumps({"started": "2020-01-01T00:00:00", "purpose": "delete", "success": True})
    body = Current().settle(thing())
    body["metadata"]["annotations"][f"{OWN_PLACE}/delete_one"] = record
    del body["metadata"]["annotations"][OWNER]
    operator = Current()
    body = operator.settle(edited(body))
    assert sorted(operator.calls) == [("update one", 0), ("update two", 0)]
    assert f"{OWN_PLACE}/delete_one" not in annotations_of(body)
    operator.settle(deleted(body))
    assert operator.called("delete one") == 1


def test_records_that_do_not_say_whose_they_are_are_believed() -> None:
    """Each object that was handled before is one."""
    busy = Current(busy="update")
    body = busy.step(edited(Current().settle(thing())))
    del body["metadata"]["annotations"][OWNER]
    operator = Current()
    operator.settle(body)
    assert operator.calls == [("update two", 1)]


def test_a_deletion_that_ends_at_once_writes_no_record() -> None:
    """Not whose they are, nor a last state: an object that has grown large could not keep it."""
    body = deleted(edited(Current().settle(thing())))
    body["metadata"]["annotations"].pop(OWNER)
    outcome = Current().cycle(body)
    assert not dict(outcome.patch)
    assert outcome.finalizers() == []


def test_a_replica_set_does_not_take_its_deployments_records_for_its_own() -> None:
    """Kubernetes copies a Deployment's annotations there; Kopf keeps other keys for that reason."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    calls = list[str]()
    kopf.on.create("things", id="create", registry=registry)(lambda **_: calls.append("create"))
    Finalizers(IDENTITY, registry=registry).apply(settings)
    owners = [{"kind": "Deployment"}]
    body = {**thing(NEW, ownerReferences=owners), "kind": "ReplicaSet"}
    deployment = {OWNER: "Deployment/default/d/9", f"{OWN_PLACE}/last-handled-configuration": "{}"}
    for _ in range(3):
        body["metadata"]["annotations"] = {**annotations_of(body), **deployment}
        body = after(body, cast("Any", cycle(registry, settings, body).patch))
    assert calls == ["create"]
