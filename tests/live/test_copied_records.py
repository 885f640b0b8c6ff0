"""An operator that copies annotations to the objects that it makes, of a kind that it handles."""

from collections.abc import Mapping
from typing import Any

import kopf
import pytest

from ..support.operators import KOPF_DEFAULT, Operator, running
from ..support.servers import Api, Resource, Server, wait_until


@pytest.mark.parametrize("rollout", ["recognise", "switch", "done"])
def test_a_child_with_copied_annotations_is_new(
    server: Server, api: Api, resource: Resource, rollout: str
) -> None:
    """All are copied but this operator's records, wherever these are in a release."""
    options: Any = {"former": [KOPF_DEFAULT], "rollout": rollout} if rollout != "done" else {}
    operator = Operator(resource, **options)
    created, copied = list[str](), dict[str, str]()

    @kopf.on.create(*operator.resource, registry=operator.registry)
    def create_fn(name: str, **_: Any) -> None:
        created.append(name)

    @kopf.on.update(*operator.resource, registry=operator.registry)
    def make_child(annotations: Mapping[str, str], **_: Any) -> None:
        kept = {key: annotations[key] for key in annotations if not finalizers.is_record(key)}
        copied.update(annotations)
        body = resource.body("child")
        body["metadata"]["annotations"] = kept
        api.create(resource.path, body).raise_for_status()

    finalizers = operator.finalizers
    parent = resource.body("parent")
    parent["metadata"]["annotations"] = {"team": "red", "kopf.zalando.org.example.com/note": "x"}
    with running(operator.registry, server, resource):
        api.create(resource.path, parent).raise_for_status()
        wait_until(lambda: created == ["parent"])
        change = {"spec": {"size": 2}}
        api.merge_patch(resource.path_to("parent"), change).raise_for_status()
        wait_until(lambda: created == ["parent", "child"])
    assert any(finalizers.is_record(key) for key in copied)
    assert {key for key in copied if not finalizers.is_record(key)} == {
        "team",
        "kopf.zalando.org.example.com/note",
    }
