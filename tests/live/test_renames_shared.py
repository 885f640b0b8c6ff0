"""Renames beside an operator with Kopf's default names: on other objects, and on the same."""

import functools
import itertools

import pytest

from ..support.operators import KOPF_DEFAULT, MAIN, running
from ..support.rollouts import (
    KOPFS_PLACE,
    PREFIX,
    Rollout,
    Stranger,
    finalizers,
    wait_for_the_next_second,
)
from ..support.servers import Api, Resource, Server, Watched, wait_until


def test_an_operator_with_kopfs_default_names_on_another_resource_is_left_alone(
    rollout: Rollout, server: Server, api: Api, resource: Resource
) -> None:
    """Its marker, its records and its calls are what they would be without the rename."""
    if api.get("/apis/example.com/v1/others").status_code == 404:
        server.define("example.com", "v1", "others", kind="Other")
    others = Resource("example.com", "v1", "others", "Other", resource.namespace)
    stranger = Stranger(others)
    with running(stranger.registry, server, others):
        api.create(others.path, others.body("theirs")).raise_for_status()
        wait_until(lambda: "last-handled" in api.get(others.path_to("theirs")).text)
    before = api.get(others.path_to("theirs")).json()
    with api.watching(others.path) as seen:
        for stage in ("plain", "recognise", "switch", "done"):
            with rollout.running(stage), running(stranger.registry, server, others):
                rollout.create(stage)
                wait_until(functools.partial(rollout.is_handled, stage, KOPFS_PLACE, PREFIX))
                rollout.delete(stage)
                wait_until(functools.partial(rollout.is_gone, stage))
        assert seen.of("theirs") == []
    assert api.get(others.path_to("theirs")).json() == before
    assert finalizers(before) == [KOPF_DEFAULT]
    assert stranger.calls == [("create", "theirs")]


def test_an_operator_that_is_known_to_share_the_objects_keeps_what_is_its_own(
    rollout: Rollout, server: Server, resource: Resource, seen: Watched
) -> None:
    """Both are called once for each object, records and marker stay, and nobody fights."""
    rollout.former["former_is_shared"] = True
    stranger = Stranger(resource)
    with rollout.running("plain"):
        rollout.create("old")
        wait_until(functools.partial(rollout.is_handled, "old", KOPFS_PLACE))
    rollout.calls.clear()
    names = ["old"]
    for number, stage in enumerate(["recognise", "switch", "recognise", "switch", "done"]):
        with rollout.running(stage), running(stranger.registry, server, resource):
            wait_for_the_next_second()
            names.append(f"object-{number}")
            rollout.create(names[-1])
            for place in (PREFIX, KOPFS_PLACE):
                wait_until(functools.partial(rollout.is_handled, names[-1], place), what=stage)
            for name in names:
                rollout.edit(name, size=number)
            for name, place in itertools.product(names, (PREFIX, KOPFS_PLACE)):
                wait_until(functools.partial(rollout.is_handled, name, place), what=stage)
            if stage in ("switch", "done"):
                for name in names:
                    carried = functools.partial(rollout.carries, name, MAIN, KOPF_DEFAULT)
                    wait_until(carried, what=stage)
    for calls in ([call[:2] for call in rollout.calls], stranger.calls):
        created = [name for kind, name in calls if kind == "create"]
        assert sorted(created) == sorted(names[1:])
        for number, name in enumerate(["old", *names[1:]]):
            expected = 5 if name == "old" else 6 - number
            assert calls.count(("update", name)) == expected, name
    for name in names:
        assert len(seen.of(name)) <= 60
    # After the last release, each takes off its own.
    rollout.delete(*names)
    with rollout.running("done"):
        for name in names:
            wait_until(functools.partial(rollout.carries, name, KOPF_DEFAULT))
    with running(stranger.registry, server, resource):
        for name in names:
            seen.wait_for("DELETED", name)
    assert sorted(name for kind, name in stranger.calls if kind == "delete") == sorted(names)


@pytest.mark.parametrize("stage", ["recognise", "switch"])
def test_an_operator_that_nobody_has_declared_does_not_end_in_a_fight(
    rollout: Rollout, server: Server, resource: Resource, seen: Watched, stage: str
) -> None:
    """Both come to rest after each change, on objects from before and on new ones."""
    stranger, own = Stranger(resource), PREFIX if stage == "switch" else KOPFS_PLACE
    with running(stranger.registry, server, resource):
        rollout.create("old")
        wait_until(functools.partial(rollout.is_handled, "old", KOPFS_PLACE))
    with rollout.running(stage), running(stranger.registry, server, resource):
        wait_for_the_next_second()
        rollout.create("new")
        for size in (2, 3):
            wait_until(functools.partial(rollout.is_handled, "new", own))
            wait_until(functools.partial(rollout.is_handled, "new", KOPFS_PLACE))
            wait_until(functools.partial(rollout.is_handled, "old", KOPFS_PLACE, PREFIX))
            for name in ("old", "new"):
                rollout.edit(name, size=size)
        wait_until(functools.partial(rollout.is_handled, "new", own))
        rollout.delete("old", "new")
        for name in ("old", "new"):
            seen.wait_for("DELETED", name)
    for name in ("old", "new"):
        assert len(seen.of(name)) <= 40
    created = [call[:2] for call in rollout.calls].count(("create", "new"))
    theirs = stranger.calls.count(("create", "new"))
    if stage == "switch":
        assert created == theirs == 1
    else:  # as in plain Kopf: both write one place, and either may believe the other
        assert (created, theirs) in [(0, 1), (1, 0), (1, 1)]
