"""Several operators and controllers on one object: each touches only what is its own."""

import threading
from typing import Any

import kopf
import pytest

import kopf_finalizers

from ..support.histories import history, turnover
from ..support.objects import create, delete, finalizers_now
from ..support.operators import KOPF_DEFAULT, MAIN, Operator, running
from ..support.servers import Api, Resource, Server, Watched, wait_until


def test_two_operators_and_a_third_controller_touch_only_their_own(
    server: Server, api: Api, resource: Resource, seen: Watched
) -> None:
    """On one object each finalizer is added once and taken off once, by its owner."""
    cleaner, watcher = Operator(resource, "cleaner"), Operator(resource, "watcher")
    cleaner.on.create(*cleaner.resource)(cleaner.noting("create"))
    cleaner.on.delete(*cleaner.resource)(cleaner.noting("cleanup"))
    watcher.on.event(*watcher.resource)(watcher.noting("event"))
    with (
        running(cleaner.registry, server, resource),
        running(watcher.registry, server, resource),
    ):
        create(api, resource, finalizers=["third.org/controller"])
        wait_until(lambda: cleaner.called("create"))
        delete(api, resource)
        wait_until(lambda: cleaner.called("cleanup"))
        seen.wait_until(lambda _: history(seen, "one")[-1] == ["third.org/controller"], timeout=10)
        api.json_patch(
            resource.path_to("one"), [{"op": "remove", "path": "/metadata/finalizers/0"}]
        ).raise_for_status()
        seen.wait_for("DELETED", "one")
    assert turnover(seen, "one") == {
        "mycompany.com/cleaner": (1, 1),
        "third.org/controller": (1, 1),
    }
    assert cleaner.called("create") == cleaner.called("cleanup") == 1


def test_two_operators_with_creation_handlers_are_both_called_once(
    server: Server, api: Api, resource: Resource
) -> None:
    """No operator takes the other's record of what it has handled for its own."""
    one, two = Operator(resource, "one"), Operator(resource, "two")
    for operator in (one, two):
        operator.on.create(*operator.resource)(operator.noting("create"))
        operator.on.update(*operator.resource)(operator.noting("update"))
        operator.on.delete(*operator.resource)(operator.noting("delete"))
    with running(one.registry, server, resource), running(two.registry, server, resource):
        names = [f"object-{number}" for number in range(5)]
        for name in names:
            create(api, resource, name)
        wait_until(lambda: one.called("create") >= 5 and two.called("create") >= 5)
        for name in names:
            delete(api, resource, name)
        wait_until(lambda: not api.list(resource.path))
    for operator in (one, two):
        counts = [operator.called(what) for what in ("create", "update", "delete")]
        assert counts == [5, 0, 5]


def test_an_operator_that_only_watches_leaves_kopfs_default_finalizer_alone(
    server: Server, api: Api, resource: Resource, seen: Watched
) -> None:
    """Beside an operator with Kopf's default name, one that only watches takes nothing off."""
    plain = kopf.OperatorRegistry()
    cleaned = threading.Event()

    @kopf.on.delete(resource.group, resource.version, resource.plural, registry=plain)
    def cleanup(**_: Any) -> None:
        cleaned.set()

    watcher = Operator(resource, finalizer=None)
    watcher.on.event(*watcher.resource, finalizer=None)(watcher.noting("event"))
    with running(plain, server, resource), running(watcher.registry, server, resource):
        create(api, resource)
        wait_until(lambda: any(KOPF_DEFAULT in finalizers for _, finalizers in watcher.calls))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert cleaned.is_set()
    assert turnover(seen, "one") == {KOPF_DEFAULT: (1, 1)}


def test_a_controller_that_changes_its_own_finalizer_meanwhile_loses_nothing(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """Neither side ever takes the other's finalizer off, and every cleanup runs once."""
    operator.on.create(*operator.resource)(operator.noting("create"))
    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))
    operator.on.delete(*operator.resource, finalizer="dns")(operator.noting("dns"))
    foreign = "third.org/controller"
    lost, stop = list[str](), threading.Event()

    def change_own() -> None:
        """Adds and removes its finalizer by JSON Patch, as another controller does."""
        while not stop.is_set():
            body = api.get(resource.path_to("one")).json()
            if not (operations := kopf_finalizers.json_patch(body, add=foreign)):
                break  # being deleted
            if not api.json_patch(resource.path_to("one"), operations).is_success:
                continue
            held = finalizers_now(api, resource)
            if held is not None and foreign not in held:
                lost.append(foreign)
            while body := api.get(resource.path_to("one")).json():
                operations = kopf_finalizers.json_patch(body, remove=foreign)
                if not operations or api.json_patch(resource.path_to("one"), operations).is_success:
                    break

    with running(operator.registry, server, resource):
        create(api, resource)
        thread = threading.Thread(target=change_own)
        thread.start()
        try:
            wait_until(lambda: operator.called("create"))
            wait_until(lambda: turnover(seen, "one").get(foreign, (0, 0))[1] >= 10)
            delete(api, resource)
        finally:
            stop.set()
            thread.join()
        seen.wait_for("DELETED", "one")
    assert not lost
    changes = turnover(seen, "one")
    assert {changes[MAIN], changes[f"{MAIN}.backups"], changes[f"{MAIN}.dns"]} == {(1, 1)}
    assert changes[foreign][0] == changes[foreign][1] >= 10
    assert sorted(what for what, _ in operator.calls) == ["backups", "create", "dns"]


def test_an_operator_with_storages_of_its_own_keeps_them(
    server: Server, api: Api, resource: Resource, seen: Watched
) -> None:
    """With storages=False, progress goes where the operator's own storages put it.

    A status takes requests of its own, and here the operator sees what each of them has changed.
    """
    operator = Operator(resource, storages=False)

    @kopf.on.startup(registry=operator.registry)
    def own_storages(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.persistence.progress_storage = kopf.StatusProgressStorage(field="status.progress")
        settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage(field="status.seen")
        settings.queueing.batch_window = 0.0001

    for what, delay in [("backups", 0.1), ("dns", 0.5)]:

        @operator.on.delete(*operator.resource, finalizer=what, id=what)
        def cleanup(retry: int, what: str = what, delay: float = delay, **_: Any) -> None:
            operator.calls.append((what, retry))
            if retry == 0:
                raise kopf.TemporaryError("busy", delay=delay)

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert sorted(operator.calls) == [("backups", 0), ("backups", 1), ("dns", 0), ("dns", 1)]
    bodies = [body for _, body in seen.of("one")]
    assert any("progress" in body.get("status", {}) for body in bodies)
    assert not any("annotations" in body["metadata"] for body in bodies)
    assert set(turnover(seen, "one").values()) == {(1, 1)}


def test_a_deletion_that_overtakes_an_addition_still_gets_its_cleanups(
    server: Server, api: Api, resource: Resource, seen: Watched
) -> None:
    """An addition that lost its race, and then adds nothing, does not stop the cleanups."""
    first = Operator(resource)
    first.on.delete(*first.resource)(first.noting("delete"))
    with running(first.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource) == [MAIN])
    operator = Operator(resource)

    @operator.on.event(*operator.resource)
    def overtake(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] is None:  # at first sight, before Kopf sends its patch
            delete(api, resource)

    operator.on.delete(*operator.resource)(operator.noting("delete"))
    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))
    with running(operator.registry, server, resource):
        seen.wait_for("DELETED", "one", timeout=15)
    assert operator.called("delete") == 1
    assert f"{MAIN}.backups" not in turnover(seen, "one")


def test_an_object_that_lost_kopfs_own_finalizer_is_not_stuck_on_a_dedicated_one(
    server: Server,
    api: Api,
    resource: Resource,
    operator: Operator,
    seen: Watched,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where somebody took Kopf's own off, Kopf calls no cleanup: released, and the log warns."""

    @operator.on.delete(*operator.resource, finalizer="backups")
    def cleanup(**_: Any) -> None:
        operator.calls.append(("cleanup",))
        raise kopf.TemporaryError("busy", delay=0.2)

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        wait_until(lambda: operator.called("cleanup"))
        operations = kopf_finalizers.json_patch(
            api.get(resource.path_to("one")).json(), remove=MAIN
        )
        api.json_patch(resource.path_to("one"), operations).raise_for_status()
        seen.wait_for("DELETED", "one")
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("though its cleanup has not succeeded" in text for text in warnings)
