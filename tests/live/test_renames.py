"""A rename on a live cluster: every release, every rollback, with objects that come and go.

An operator is replaced, release by release and back, as processes that are killed. Each object is
judged at the end: created once, cleaned up once, gone, and nothing left behind. The tests after
that look at one matter each.
"""

import functools
import itertools
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import kopf
import pytest

from ..support.histories import history
from ..support.operators import KOPF_DEFAULT, MAIN, OPERATOR_FILES, Operator, running
from ..support.rollouts import (
    FOREIGN,
    KOPFS_PLACE,
    PREFIX,
    Cluster,
    Rollout,
    annotations,
    finalizers,
    last_state,
)
from ..support.servers import Api, Resource, Server, Watched, wait_until

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
    """Objects of every release, also those that go meanwhile, are created and cleaned once.

    Every change that is made while nothing runs is handled once too.
    """
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")  # noqa: T201 - to run a failure again
    chance = random.Random(seed)
    cluster.env = {"FORMER": json.dumps([former]), "MORE": json.dumps(more)}
    numbers = iter(range(count))

    def come(share: int) -> None:
        for number in [next(numbers) for _ in range(share)]:
            cluster.create(f"object-{number}", failures=chance.choice([0, 0, 0, 1]))

    def go(share: int, keep: set[str]) -> None:
        known = [n for n, one in cluster.objects().items() if finalizers(one) and n not in keep]
        for name in chance.sample(known, min(share, len(known))):
            cluster.delete(name)

    edited = set[str]()

    share = count // len(STAGES) // 2
    for stage in STAGES:
        with cluster.operator(stage) as operator:
            come(share)
            go(share // 2, edited)
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
        edited = set(chance.sample(sorted(youngest), share // 2))
        for name in edited:
            cluster.edit(name, chance.randrange(10**9))
        come(share)
        go(share // 2, edited)

    with cluster.operator("done"):
        wait_until(lambda: cluster.settled(PREFIX), timeout=60)
        assert _nothing_former(cluster, former, former_prefix)
        for name in cluster.objects():
            cluster.delete(name)
        wait_until(lambda: not cluster.objects(), timeout=60)
    calls = cluster.calls()
    assert {calls[f"create {uid}"] for uid in cluster.created} == {1}, f"SEED={seed}"
    assert {calls[f"cleanup {uid}"] for uid in cluster.created} == {1}, f"SEED={seed}"
    updates = {uid: calls[f"update {uid}"] for uid in cluster.created}
    assert updates == {uid: cluster.edits[uid] for uid in cluster.created}, f"SEED={seed}"
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


MIXES = [
    [KOPF_DEFAULT],
    [MAIN],
    [KOPF_DEFAULT, MAIN],
    [MAIN, KOPF_DEFAULT],
    [KOPF_DEFAULT, FOREIGN, MAIN],
    [FOREIGN, KOPF_DEFAULT],
    [KOPF_DEFAULT, KOPF_DEFAULT],
    [MAIN, KOPF_DEFAULT, MAIN, FOREIGN, KOPF_DEFAULT],
]


@pytest.mark.parametrize("stage", ["recognise", "switch"])
def test_whatever_an_object_carries_that_is_deleted_while_nothing_runs_it_goes(
    rollout: Rollout, seen: Watched, stage: str
) -> None:
    """Its cleanup is called once, a foreign finalizer stays for its owner, and none is added."""
    mixes = {f"object-{number}": mix for number, mix in enumerate(MIXES)}
    for name, mix in mixes.items():
        rollout.create(name, *mix)
    rollout.delete(*mixes)
    with rollout.running(stage):
        for name, mix in mixes.items():
            if FOREIGN in mix:
                wait_until(functools.partial(rollout.carries, name, FOREIGN))
                rollout.take_off(name, FOREIGN)
            seen.wait_for("DELETED", name)
    assert sorted(rollout.calls) == [("delete", name, 0) for name in sorted(mixes)]
    for name in mixes:
        for before, after in itertools.pairwise(history(seen, name)):
            assert set(after) <= set(before)


def test_a_name_is_replaced_in_its_place_and_in_one_request(
    rollout: Rollout, seen: Watched
) -> None:
    """No version of an object has neither name or both, nor one name with the other's records."""
    names = [f"object-{number}" for number in range(10)]
    with rollout.running("plain"):
        for name in names:
            rollout.create(name, FOREIGN)
        for name in names:
            wait_until(functools.partial(rollout.is_handled, name, KOPFS_PLACE))
    for name in names:
        body = rollout.get(name) or {}
        carried = [FOREIGN, KOPF_DEFAULT, "third.net/g"]
        patch = {
            "metadata": {
                "finalizers": carried,
                "resourceVersion": body["metadata"]["resourceVersion"],
            }
        }
        rollout.api.merge_patch(rollout.resource.path_to(name), patch).raise_for_status()
    for stage, place in [("switch", PREFIX), ("recognise", KOPFS_PLACE)]:
        with rollout.running(stage):
            for name in names:
                wait_until(functools.partial(rollout.is_handled, name, place))
    for name in names:
        former = [FOREIGN, KOPF_DEFAULT, "third.net/g"]
        own = [FOREIGN, MAIN, "third.net/g"]
        assert history(seen, name)[-3:] == [former, own, former]
        for _, body in seen.of(name):
            if MAIN in finalizers(body):
                assert last_state(body, PREFIX)
                assert not last_state(body, KOPFS_PLACE)
    assert len(rollout.calls) == len(names)


def test_a_handler_that_waits_for_its_retry_goes_on_where_it_was(rollout: Rollout) -> None:
    """In every release, forwards and back: no attempt is forgotten, and none is counted twice."""
    with rollout.running("plain"):
        for name in ("updated", "deleted"):
            rollout.create(name, FOREIGN)
            wait_until(functools.partial(rollout.is_handled, name, KOPFS_PLACE))
    rollout.calls.clear()
    rollout.is_busy = True
    rollout.create("created")
    rollout.edit("updated", size=2)
    rollout.delete("deleted")
    handlers = [("create", "created"), ("update", "updated"), ("delete", "deleted")]
    last = dict.fromkeys(handlers, -1)
    for stage in ["plain", "recognise", "switch", "recognise", "plain", "recognise", "switch"]:
        if stage == "plain" and last["create", "created"] >= 0:
            # The last step back: each object is to be found where that release looks for it.
            for _, name in handlers:
                assert KOPFS_PLACE in json.dumps(rollout.get(name))
        with rollout.running(stage):
            for handler in handlers:
                wait_until(functools.partial(rollout.called, *handler, 2), what=stage)
        for handler in handlers:
            attempts = [retry for *called, retry in rollout.calls if tuple(called) == handler]
            # As in plain Kopf, an operator may be stopped before it has stored its last attempt.
            assert attempts[0] in (last[handler], last[handler] + 1), (stage, handler)
            assert attempts == list(range(attempts[0], attempts[-1] + 1)), (stage, handler)
            last[handler] = attempts[-1]
        rollout.calls.clear()
    rollout.is_busy = False
    with rollout.running("switch"):
        for name in ("created", "updated"):
            wait_until(functools.partial(rollout.is_handled, name, PREFIX))
        wait_until(lambda: rollout.carries("deleted", FOREIGN))
    assert sorted(call[:2] for call in rollout.calls) == sorted(handlers)


def test_a_dedicated_finalizer_is_renamed_in_the_same_three_releases(
    server: Server, api: Api, resource: Resource, seen: Watched
) -> None:
    """Forwards and back, with objects that go while nothing runs; then it is dropped."""
    old, new = "mycompany.com/old-backups", f"{MAIN}.backups"
    cleaned = Counter[str]()

    def release(stage: str) -> kopf.OperatorRegistry:
        options: dict[str, Any] = {}
        if stage in ("recognise", "switch"):
            options = {"former_dedicated": {"backups": [old]}, "rollout": stage}
        if stage == "dropped":
            options = {"former": [new]}
        operator = Operator(resource, **options)
        things = operator.resource
        operator.on.create(*things)(operator.noting("create"))
        if stage == "dropped":
            operator.on.delete(*things)(operator.noting("delete"))
        else:
            name = old if stage == "plain" else "backups"

            @operator.on.delete(*things, finalizer=name, id="backups")
            def backups(name: str, body: kopf.Body, retry: int, **_: Any) -> None:
                assert {old, new} & set(body["metadata"]["finalizers"])
                if retry == 0:
                    raise kopf.TemporaryError("busy", delay=0.1)
                cleaned[name] += 1

        return operator.registry

    stages = ["plain", "recognise", "plain", "recognise", "switch", "recognise", "switch", "done"]
    names = list[str]()

    def carries(name: str, *expected: str) -> bool:
        answer = api.get(resource.path_to(name))
        found = finalizers(answer.json()) if answer.is_success else []
        return sorted(found) == sorted(expected)

    for number, stage in enumerate(stages):
        written = old if stage in ("plain", "recognise") else new
        with running(release(stage), server, resource):
            here = [f"object-{number}-{which}" for which in ("now", "down", "later")]
            for name in here:
                api.create(resource.path, resource.body(name)).raise_for_status()
            alive = [name for name in (*names, *here) if not name.endswith(("now", "down"))]
            for name in (*here, *alive):
                wait_until(functools.partial(carries, name, written, MAIN), what=stage)
            for name in names:
                if name.endswith("down"):
                    wait_until(functools.partial(carries, name), what=stage)
            api.delete(resource.path_to(here[0])).raise_for_status()
            seen.wait_for("DELETED", here[0])
        names = [*(name for name in names if name.endswith("later")), *here[1:]]
        api.delete(resource.path_to(here[1])).raise_for_status()
    with running(release("dropped"), server, resource):
        seen.wait_for("DELETED", here[1])
        later = [name for name in names if name.endswith("later")]
        for name in later:
            wait_until(functools.partial(carries, name, MAIN))
            api.delete(resource.path_to(name)).raise_for_status()
        for name in later:
            seen.wait_for("DELETED", name)
    expected = {f"object-{number}-now" for number in range(len(stages))}
    expected |= {f"object-{number}-down" for number in range(len(stages) - 1)}
    assert cleaned == dict.fromkeys(expected, 1)
    for name in (*expected, *later):
        # One of the two names at a time, and each of them once in a direction.
        assert all(not {old, new} <= set(carried) for carried in history(seen, name))


def test_an_operator_with_storages_of_its_own_is_renamed_and_keeps_them(
    server: Server, api: Api, resource: Resource
) -> None:
    """Its records stay in the status, nothing is called again, and only the finalizer moves."""
    calls = list[str]()
    stages: list[dict[str, Any]] = [
        {"former": [KOPF_DEFAULT], "rollout": "recognise", "storages": False},
        {"former": [KOPF_DEFAULT], "storages": False},
        {"storages": False},
    ]

    def carries(expected: str) -> bool:
        return finalizers(api.get(resource.path_to("one")).json()) == [expected]

    for number, options in enumerate([{}, *stages]):
        registry = Operator(resource, **options).registry if options else kopf.OperatorRegistry()
        things = (resource.group, resource.version, resource.plural)
        kopf.on.resume(*things, registry=registry)(lambda **_: calls.append("resume"))
        kopf.on.create(*things, registry=registry)(lambda **_: calls.append("create"))
        kopf.on.delete(*things, registry=registry)(lambda **_: calls.append("delete"))
        settings = kopf.OperatorSettings()
        settings.persistence.progress_storage = kopf.StatusProgressStorage()
        settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage()
        with running(registry, server, resource, settings=settings):
            if number == 0:
                api.create(resource.path, resource.body("one")).raise_for_status()
            wait_until(functools.partial(lambda number: len(calls) == number + 1, number))
            wait_until(functools.partial(carries, MAIN if number >= 2 else KOPF_DEFAULT))
            assert not annotations(api.get(resource.path_to("one")).json())
            if options == stages[-1]:
                api.delete(resource.path_to("one")).raise_for_status()
                wait_until(lambda: api.get(resource.path_to("one")).status_code == 404)
    assert calls == ["create", "resume", "resume", "resume", "delete"]


OTHERWISE = """
import kopf
from kopf._cogs.structs import finalizers as kopfs

kopfs.is_deletion_blocked = lambda body, finalizer: False
"""


def test_an_operator_whose_kopf_compares_otherwise_handles_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    """It ends before it has looked at any object, and says why."""
    body = cluster.resource.body("one", finalizers=[KOPF_DEFAULT])
    before = cluster.api.create(cluster.resource.path, body).raise_for_status().json()
    file = tmp_path / "otherwise.py"
    file.write_text(OTHERWISE + (OPERATOR_FILES / "rollout.py").read_text())
    operator = cluster.operator("switch", str(file))
    operator.start()
    assert operator.wait() != 0
    assert "compares finalizers in a way that kopf-finalizers does not know" in operator.output()
    assert cluster.objects() == {"one": before}
    assert not cluster.calls()
