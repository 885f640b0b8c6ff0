"""Operators in one release after the other: processes that are killed, and threads."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kopf

import kopf_finalizers

from .operators import Operator, OperatorProcess, running
from .servers import Api, Resource, Server, wait_until

PREFIX = "db-operator.mycompany.com/"
KOPFS_PLACE = "kopf.zalando.org/"
FOREIGN = "other.org/f"


@dataclass
class Cluster:
    """The objects of one test, and what its operator has noted about them."""

    server: Server
    api: Api
    resource: Resource
    effects: Path
    env: dict[str, str] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    edits: Counter[str] = field(default_factory=Counter)

    def operator(self, stage: str, file: str = "rollout.py") -> OperatorProcess:
        log = self.effects / "log"
        env = {"EFFECTS": str(self.effects), "STAGE": stage, **self.env}
        return OperatorProcess(file, self.server, log, resource=self.resource, **env)

    def create(self, name: str, **spec: Any) -> None:
        body = self.resource.body(name, spec=spec)
        answer = self.api.create(self.resource.path, body).raise_for_status()
        self.created.add(answer.json()["metadata"]["uid"])

    def edit(self, name: str, size: int) -> None:
        patch = {"spec": {"size": size}}
        answer = self.api.merge_patch(self.resource.path_to(name), patch).raise_for_status()
        self.edits[answer.json()["metadata"]["uid"]] += 1

    def delete(self, name: str) -> None:
        self.api.delete(self.resource.path_to(name)).raise_for_status()

    def objects(self) -> dict[str, dict[str, Any]]:
        return {one["metadata"]["name"]: one for one in self.api.list(self.resource.path)}

    def calls(self) -> Counter[str]:
        noted = self.effects / "calls"
        return Counter(noted.read_text().splitlines() if noted.exists() else [])

    def settled(self, *places: str) -> bool:
        """Whether every object is handled as it is, in one of these places, and none is going."""
        return all(
            "deletionTimestamp" not in one["metadata"]
            and one["spec"] in (last_state(one, place).get("spec") for place in places)
            for one in self.objects().values()
        )


def annotations(body: dict[str, Any]) -> dict[str, str]:
    return dict(body["metadata"].get("annotations", {}))


def last_state(body: dict[str, Any], place: str) -> dict[str, Any]:
    return dict(json.loads(annotations(body).get(f"{place}last-handled-configuration", "{}")))


def finalizers(body: dict[str, Any]) -> list[str]:
    return list(body["metadata"].get("finalizers", []))


@dataclass
class Rollout:
    """An operator in one release after the other, and what its handlers were called for."""

    server: Server
    api: Api
    resource: Resource
    former: dict[str, Any]
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    is_busy: bool = False

    def release(self, stage: str) -> kopf.OperatorRegistry:
        """What is rolled out in one stage."""
        if stage == "plain":
            registry = kopf.OperatorRegistry()
        elif stage == "done":
            registry = Operator(self.resource).registry
        else:
            registry = Operator(self.resource, rollout=stage, **self.former).registry
        things = (self.resource.group, self.resource.version, self.resource.plural)
        for kind in ("create", "update", "delete"):
            getattr(kopf.on, kind)(*things, id=kind, registry=registry)(self.handler(kind))
        return registry

    def handler(self, kind: str) -> Callable[..., None]:
        def handle(name: str, retry: int, **_: Any) -> None:
            self.calls.append((kind, name, retry))
            if self.is_busy:
                raise kopf.TemporaryError("busy", delay=0.1)

        return handle

    @contextlib.contextmanager
    def running(self, stage: str) -> Iterator[None]:
        with running(self.release(stage), self.server, self.resource):
            yield

    def called(self, kind: str, name: str, at_least: int = 1) -> bool:
        return sum(1 for call in self.calls if call[:2] == (kind, name)) >= at_least

    # What users do

    def create(self, name: str, *carried: str, **spec: Any) -> None:
        body = self.resource.body(name, spec=spec, finalizers=list(carried))
        self.api.create(self.resource.path, body).raise_for_status()

    def edit(self, name: str, **spec: Any) -> None:
        patch = {"spec": spec}
        self.api.merge_patch(self.resource.path_to(name), patch).raise_for_status()

    def delete(self, *names: str) -> None:
        for name in names:
            self.api.delete(self.resource.path_to(name)).raise_for_status()

    def get(self, name: str) -> dict[str, Any] | None:
        answer = self.api.get(self.resource.path_to(name))
        return None if answer.status_code == 404 else dict(answer.raise_for_status().json())

    def carried(self, name: str) -> list[str]:
        body = self.get(name)
        return finalizers(body) if body else []

    def is_gone(self, name: str) -> bool:
        return self.get(name) is None

    def carries(self, name: str, *expected: str) -> bool:
        return sorted(self.carried(name)) == sorted(expected)

    def is_handled(self, name: str, *places: str) -> bool:
        body = self.get(name) or {"metadata": {}, "spec": {}}
        return body["spec"] in [last_state(body, place).get("spec") for place in places]

    def take_off(self, name: str, finalizer: str) -> None:
        operations = kopf_finalizers.json_patch(self.get(name) or {}, remove=finalizer)
        self.api.json_patch(self.resource.path_to(name), operations).raise_for_status()


def wait_for_the_next_second() -> None:
    """API servers store a creation with its second: only from the next on are objects younger."""
    now = int(time.time())
    wait_until(lambda: int(time.time()) > now)


@dataclass
class Stranger:
    """Another operator, with Kopf's default names, and what its handlers were called for."""

    resource: Resource
    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        things = (self.resource.group, self.resource.version, self.resource.plural)
        for kind in ("create", "update", "delete"):

            def handler(name: str, kind: str = kind, **_: Any) -> None:
                self.calls.append((kind, name))

            # Named as ours are: records of the same name in the same place.
            getattr(kopf.on, kind)(*things, id=kind, registry=registry)(handler)
        return registry
