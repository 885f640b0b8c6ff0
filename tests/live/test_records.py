"""Records on objects that were restored, copied or have grown large."""

import functools
import itertools
import logging
from typing import Any

import kopf
import pytest

from ..support.operators import Operator, running
from ..support.servers import Api, Resource, Server, wait_until

KOPF_DEFAULT = "kopf.zalando.org/KopfFinalizerMarker"


class Tried:
    """An operator with two cleanups, of which one is tried again for as long as is wanted."""

    def __init__(self, server: Server, api: Api, resource: Resource, **options: Any) -> None:
        self.server, self.api, self.resource = server, api, resource
        self.is_busy = False
        self.calls = list[tuple[str, str]]()
        operator = Operator(resource, **options)
        self.registry, things = operator.registry, operator.resource

        @operator.on.create(*things)
        def create(name: str, **_: Any) -> None:
            self.calls.append(("create", name))

        @operator.on.update(*things)
        def update(name: str, **_: Any) -> None:
            self.calls.append(("update", name))

        @operator.on.delete(*things, finalizer="backups")
        def backups(uid: str, **_: Any) -> None:
            self.calls.append(("backups", uid))

        @operator.on.delete(*things, finalizer="dns")
        def dns(uid: str, **_: Any) -> None:
            if self.is_busy:
                raise kopf.TemporaryError("not yet", delay=0.2)
            self.calls.append(("dns", uid))

    def create(self, name: str, **more: Any) -> None:
        self.api.create(self.resource.path, self.resource.body(name, **more)).raise_for_status()

    def get(self, name: str) -> dict[str, Any]:
        answer = self.api.get(self.resource.path_to(name))
        return dict(answer.json()) if answer.is_success else {}

    def delete(self, name: str) -> None:
        self.api.delete(self.resource.path_to(name)).raise_for_status()

    def edit(self, name: str, patch: dict[str, Any]) -> None:
        self.api.merge_patch(self.resource.path_to(name), patch).raise_for_status()

    def is_handled(self, name: str) -> bool:
        return "last-handled-configuration" in str(self.get(name))


@pytest.mark.parametrize("keeps_finalizers", [False, True])
def test_cleanups_of_a_restored_object_are_called_whatever_was_done_before_the_backup(
    server: Server, api: Api, resource: Resource, keeps_finalizers: bool
) -> None:
    """The backup was made during its deletion: the record of one that had succeeded is on it."""
    tried = Tried(server, api, resource)
    with running(tried.registry, server, resource):
        tried.create("one")
        wait_until(lambda: tried.is_handled("one"))
        tried.is_busy = True
        tried.delete("one")
        wait_until(lambda: '"success":true' in str(tried.get("one")))
        wait_until(lambda: '"retries":1' in str(tried.get("one")))
        backup = tried.get("one")["metadata"]
        tried.edit("one", {"metadata": {"finalizers": None}})
        wait_until(lambda: not tried.get("one"))
        tried.is_busy = False
        kept = {"finalizers": backup["finalizers"]} if keeps_finalizers else {}
        tried.create("one", annotations=backup["annotations"], **kept)
        wait_until(lambda: len(tried.get("one")["metadata"].get("finalizers", [])) == 3)
        uid = tried.get("one")["metadata"]["uid"]
        tried.delete("one")
        wait_until(lambda: not tried.get("one"))
    assert [call for call in tried.calls if call[1] == uid] == [("backups", uid), ("dns", uid)]
    assert tried.calls.count(("create", "one")) == 1  # restored as it was handled


def test_an_object_with_the_records_of_another_one_is_new(
    server: Server, api: Api, resource: Resource
) -> None:
    """As where an operator copies all annotations to the objects that it makes."""
    tried = Tried(server, api, resource)
    with running(tried.registry, server, resource):
        tried.create("parent")
        wait_until(lambda: tried.is_handled("parent"))
        tried.create("child", annotations=tried.get("parent")["metadata"]["annotations"])
        wait_until(lambda: ("create", "child") in tried.calls)


def test_an_object_that_has_grown_too_large_to_be_recorded_can_be_deleted(
    server: Server, api: Api, resource: Resource
) -> None:
    """Annotations hold 256 KiB: Kopf would store its last state once more at its end."""
    tried = Tried(server, api, resource)
    with running(tried.registry, server, resource):
        tried.create("large")
        wait_until(lambda: tried.is_handled("large"))
    tried.edit("large", {"spec": {"x": "x" * 300_000}})
    tried.is_busy = True
    with running(tried.registry, server, resource):
        tried.delete("large")
        uid = tried.get("large")["metadata"]["uid"]
        wait_until(lambda: '"retries":1' in str(tried.get("large")))
        tried.is_busy = False
        wait_until(lambda: not tried.get("large"))
    assert [call for call in tried.calls if call[0] != "create"] == [("backups", uid), ("dns", uid)]


def test_a_large_object_fits_in_each_release_of_a_rename(
    server: Server, api: Api, resource: Resource, caplog: pytest.LogCaptureFixture
) -> None:
    """Its last state is once on it, never twice: what worked in the release before works."""
    caplog.set_level(logging.ERROR)
    stages = ["plain", "recognise", "switch", None, "switch", "recognise", "plain"]
    size = itertools.count(140_000)
    for number, stage in enumerate(stages):
        calls = list[Any]()
        registry = release(resource, stage, calls)
        with running(registry, server, resource):
            for name in [f"new-{number}", *(["old"] if number == 0 else [])]:
                spec = {"x": "x" * next(size)}
                body = resource.body(name, spec=spec)
                api.create(resource.path, body).raise_for_status()
                wait_until(functools.partial(lambda c, n: ("create", n) in c, calls, name))
            patch = {"spec": {"x": "y" * next(size)}}
            api.merge_patch(resource.path_to("old"), patch).raise_for_status()
            wait_until(functools.partial(lambda c: ("update", "old") in c, calls))
            wait_until(lambda: annotations_of(api, resource, "old").count("y" * 140_000) == 1)
            api.delete(resource.path_to(f"new-{number}")).raise_for_status()
            gone = resource.path_to(f"new-{number}")
            wait_until(functools.partial(lambda p: api.get(p).status_code == 404, gone))
    assert not [one for one in caplog.records if "Too long" in one.getMessage()]


def annotations_of(api: Api, resource: Resource, name: str) -> str:
    return str(api.get(resource.path_to(name)).json()["metadata"].get("annotations"))


def release(resource: Resource, stage: str | None, calls: list[Any]) -> kopf.OperatorRegistry:
    if stage == "plain":
        registry = kopf.OperatorRegistry()
    else:
        former: dict[str, Any] = {"former": [KOPF_DEFAULT], "rollout": stage} if stage else {}
        registry = Operator(resource, **former).registry
    things = (resource.group, resource.version, resource.plural)
    for kind in ("create", "update", "delete"):

        def handler(name: str, kind: str = kind, **_: Any) -> None:
            calls.append((kind, name))

        getattr(kopf.on, kind)(*things, id=kind, registry=registry)(handler)
    return registry
