"""A rename on a live cluster: every release, every rollback, with objects that come and go.

An operator is replaced, release by release and back, as processes that are killed. Each object is
judged at the end: created once, cleaned up once, gone, and nothing left behind.
"""

import json
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .operators import OperatorProcess
from .servers import Api, Resource, Server, wait_until

MAIN = "mycompany.com/db-operator"
PREFIX = "db-operator.mycompany.com/"
KOPF_DEFAULT = "kopf.zalando.org/KopfFinalizerMarker"

# Forwards, and back by one release at every step.
STAGES = [
    "plain",
    "recognise",
    "plain",
    "recognise",
    "switch",
    "recognise",
    "switch",
    "done",
    "switch",
    "done",
]


@dataclass
class Cluster:
    """The objects of one test, and what its operator has noted about them."""

    server: Server
    api: Api
    resource: Resource
    effects: Path
    env: dict[str, str] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)

    def operator(self, stage: str, file: str = "rollout.py") -> OperatorProcess:
        log = self.effects / "log"
        env = {"EFFECTS": str(self.effects), "STAGE": stage, **self.env}
        return OperatorProcess(file, self.server, log, resource=self.resource, **env)

    def create(self, name: str, **spec: Any) -> None:
        body = self.resource.body(name, spec=spec)
        answer = self.api.create(self.resource.path, body).raise_for_status()
        self.created.add(answer.json()["metadata"]["uid"])

    def delete(self, name: str) -> None:
        self.api.delete(self.resource.path_to(name)).raise_for_status()

    def objects(self) -> dict[str, dict[str, Any]]:
        return {one["metadata"]["name"]: one for one in self.api.list(self.resource.path)}

    def calls(self) -> Counter[str]:
        noted = self.effects / "calls"
        return Counter(noted.read_text().splitlines() if noted.exists() else [])

    def settled(self, *places: str) -> bool:
        """Whether every object is handled, in one of these places, and none is going."""
        return all(
            "deletionTimestamp" not in one["metadata"]
            and any(f"{place}last-handled-configuration" in annotations(one) for place in places)
            for one in self.objects().values()
        )


def annotations(body: dict[str, Any]) -> dict[str, str]:
    return dict(body["metadata"].get("annotations", {}))


def finalizers(body: dict[str, Any]) -> list[str]:
    return list(body["metadata"].get("finalizers", []))


@pytest.fixture
def cluster(server: Server, api: Api, resource: Resource, tmp_path: Path) -> Cluster:
    return Cluster(server, api, resource, tmp_path)


@pytest.mark.parametrize(
    ("former", "more", "former_prefix", "count"),
    [
        pytest.param(KOPF_DEFAULT, {}, "kopf.zalando.org/", 200, id="from Kopf's default names"),
        pytest.param(
            "twingate.com/finalizer",
            {"former_storage_prefix": "twingate.com"},
            "twingate.com/",
            60,
            id="from names of its own",
        ),
    ],
)
def test_every_release_and_every_rollback_loses_nothing(
    cluster: Cluster, former: str, more: dict[str, Any], former_prefix: str, count: int
) -> None:
    """Objects of every release, also those that go meanwhile, are created and cleaned once."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")  # noqa: T201 - to run a failure again
    chance = random.Random(seed)
    cluster.env = {"FORMER": json.dumps([former]), "MORE": json.dumps(more)}
    numbers = iter(range(count))

    def come(share: int) -> None:
        for number in [next(numbers) for _ in range(share)]:
            cluster.create(f"object-{number}", failures=chance.choice([0, 0, 0, 1]))

    def go(share: int) -> None:
        known = [n for n, one in cluster.objects().items() if finalizers(one)]
        for name in chance.sample(known, min(share, len(known))):
            cluster.delete(name)

    share = count // len(STAGES) // 2
    for stage in STAGES:
        with cluster.operator(stage) as operator:
            come(share)
            go(share // 2)
            wait_until(lambda: cluster.settled(former_prefix, PREFIX), timeout=60, what=stage)
            if stage == "switch":
                wait_until(lambda: _nothing_former(cluster, former, former_prefix), what="moved")
            operator.kill()
        written = {"plain": former, "recognise": former}.get(stage, MAIN)
        youngest = cluster.objects()
        assert all(
            MAIN in finalizers(one) or former in finalizers(one) for one in youngest.values()
        )
        if stage in ("switch", "done"):
            assert all(written in finalizers(one) for one in youngest.values())
        come(share)
        go(share // 2)

    with cluster.operator("done"):
        wait_until(lambda: cluster.settled(PREFIX), timeout=60)
        assert _nothing_former(cluster, former, former_prefix)
        for name in cluster.objects():
            cluster.delete(name)
        wait_until(lambda: not cluster.objects(), timeout=60)
    calls = cluster.calls()
    assert {calls[f"create {uid}"] for uid in cluster.created} == {1}, f"SEED={seed}"
    assert {calls[f"cleanup {uid}"] for uid in cluster.created} == {1}, f"SEED={seed}"
    assert not any(call.startswith("update") for call in calls), f"SEED={seed}"
    assert len(cluster.created) == count
    output = (cluster.effects / "log").read_text()
    assert "Traceback" not in output
    moved = [line for line in output.splitlines() if "Moving finalizer" in line]
    assert len(moved) >= 1


def _nothing_former(cluster: Cluster, former: str, former_prefix: str) -> bool:
    return not any(
        former in finalizers(one) or any(key.startswith(former_prefix) for key in annotations(one))
        for one in cluster.objects().values()
    )
