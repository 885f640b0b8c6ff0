"""Cleanups and their finalizers, with operators at work on both API servers."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import kopf
import pytest

from ..support.histories import history, turnover
from ..support.objects import create, delete, finalizers_now, has_now
from ..support.operators import MAIN, Operator, running
from ..support.servers import Api, Resource, Server, Watched, wait_until


def test_dedicated_finalizers_leave_as_their_cleanups_succeed(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """Three cleanups, three finalizers: all there before anything runs, each gone with its own."""
    gates = {what: threading.Event() for what in ("backups", "dns", "users")}
    operator.on.create(*operator.resource)(operator.noting("create"))
    for what, gate in gates.items():

        def cleanup(gate: threading.Event = gate, what: str = what, **kwargs: Any) -> None:
            operator.noting(what)(**kwargs)
            if not gate.is_set():
                raise kopf.TemporaryError("not yet", delay=0.1)

        operator.on.delete(*operator.resource, finalizer=what, id=what)(cleanup)
    everything = sorted([MAIN, *(f"{MAIN}.{what}" for what in gates)])

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        assert operator.calls[0] == ("create", everything)
        delete(api, resource)
        for what, gate in gates.items():
            wait_until(functools.partial(operator.called, what))
            assert f"{MAIN}.{what}" in (finalizers_now(api, resource) or [])
            gate.set()
            everything.remove(f"{MAIN}.{what}")
            if what != "users":
                wait_until(functools.partial(has_now, api, resource, everything))
        seen.wait_for("DELETED", "one")
    assert set(turnover(seen, "one").values()) == {(1, 1)}
    # The last cleanup's finalizer and Kopf's own leave together.
    assert history(seen, "one")[-1] == [f"{MAIN}.users", MAIN]


def test_a_failing_cleanup_keeps_its_finalizer_until_it_succeeds(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """While a cleanup is tried again, its finalizer stays; then the object goes."""

    @operator.on.delete(*operator.resource, finalizer="backups", backoff=0.1)
    async def cleanup(retry: int, body: kopf.Body, **_: Any) -> None:
        operator.calls.append((retry, f"{MAIN}.backups" in body["metadata"]["finalizers"]))
        if retry == 0:
            raise kopf.TemporaryError("the backup is busy", delay=0.1)
        if retry == 1:
            raise ValueError("something unforeseen")

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert operator.calls == [(0, True), (1, True), (2, True)]
    assert turnover(seen, "one")[f"{MAIN}.backups"] == (1, 1)


def fail_for_good(**_: Any) -> None:
    raise kopf.PermanentError("it can never be done")


def fail(**_: Any) -> None:
    raise ValueError("it cannot be done now")


@pytest.mark.parametrize(
    ("cleanup", "options"),
    [
        pytest.param(fail_for_good, {}, id="permanent error"),
        pytest.param(fail, {"retries": 2, "backoff": 0.1}, id="retries spent"),
        pytest.param(fail, {"timeout": 0.3, "backoff": 0.1}, id="timeout spent"),
        pytest.param(fail, {"errors": kopf.ErrorsMode.PERMANENT}, id="errors are permanent"),
    ],
)
def test_an_object_is_not_stuck_on_a_cleanup_that_is_given_up(
    server: Server,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    caplog: pytest.LogCaptureFixture,
    cleanup: Callable[..., None],
    options: dict[str, Any],
) -> None:
    """Where Kopf gives a cleanup up, its finalizer goes too, and the log warns and names it."""
    operator.on.delete(*operator.resource, finalizer="backups", **options)(cleanup)
    operator.on.delete(*operator.resource, finalizer="dns")(operator.noting("dns"))
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert operator.called("dns") == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    given_up = [text for text in warnings if "is given up and has not succeeded" in text]
    assert len(given_up) == 1
    assert f"{MAIN}.backups no longer waits for it" in given_up[0]


def test_an_object_that_stops_matching_loses_the_dedicated_finalizer(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Filters decide which objects carry a finalizer, when they are created and later."""
    operator.on.delete(*operator.resource, finalizer="backups", labels={"backup": "yes"})(
        operator.noting("backups")
    )
    operator.on.delete(*operator.resource, finalizer="dns")(operator.noting("dns"))
    with running(operator.registry, server, resource):
        create(api, resource, labels={"backup": "no"})
        wait_until(lambda: finalizers_now(api, resource) == [f"{MAIN}.dns", MAIN])
        for value, expected in [
            ("yes", [MAIN, f"{MAIN}.backups", f"{MAIN}.dns"]),
            ("no", [MAIN, f"{MAIN}.dns"]),
        ]:
            api.merge_patch(
                resource.path_to("one"), {"metadata": {"labels": {"backup": value}}}
            ).raise_for_status()
            wait_until(functools.partial(has_now, api, resource, expected))
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)
    assert [what for what, _ in operator.calls] == ["dns"]


def test_an_object_that_stops_matching_while_it_is_deleted_is_not_stuck(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """A cleanup that no longer matches is not waited for, while the others are."""

    @operator.on.delete(*operator.resource, finalizer="backups", labels={"backup": "yes"})
    def backups(**_: Any) -> None:
        operator.calls.append(("backups",))
        raise kopf.TemporaryError("not yet", delay=0.1)

    done = threading.Event()

    @operator.on.delete(*operator.resource, finalizer="dns")
    def dns(**_: Any) -> None:
        if not done.is_set():
            raise kopf.TemporaryError("not yet", delay=0.1)

    with running(operator.registry, server, resource):
        create(api, resource, labels={"backup": "yes"})
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        wait_until(lambda: operator.called("backups"))
        api.merge_patch(
            resource.path_to("one"), {"metadata": {"labels": {"backup": "no"}}}
        ).raise_for_status()
        wait_until(lambda: f"{MAIN}.backups" not in (finalizers_now(api, resource) or []))
        assert f"{MAIN}.dns" in (finalizers_now(api, resource) or [])
        done.set()
        seen.wait_for("DELETED", "one")


@pytest.mark.parametrize(
    "kind", ["create", "resume", "update", "field", "event", "daemon", "timer"]
)
def test_a_finalizer_without_a_cleanup_is_released_when_the_object_is_deleted(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator, kind: str
) -> None:
    """Any handler may have a finalizer; nobody has to take it off."""
    more: dict[str, dict[str, Any]] = {
        "field": {"field": "spec.size"},
        "timer": {"interval": 60},
    }

    async def handler(**_: Any) -> None: ...

    getattr(operator.on, kind)(*operator.resource, finalizer="guard", **more.get(kind, {}))(handler)
    with running(operator.registry, server, resource):
        api.create(resource.path, resource.body("one", spec={"size": 1})).raise_for_status()
        wait_until(lambda: f"{MAIN}.guard" in (finalizers_now(api, resource) or []))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    needs_kopfs_own = kind in ("daemon", "timer")
    expected = {f"{MAIN}.guard": (1, 1)} | ({MAIN: (1, 1)} if needs_kopfs_own else {})
    assert turnover(seen, "one") == expected


def test_an_operator_that_gets_a_dedicated_finalizer_guards_existing_objects(
    server: Server, api: Api, resource: Resource
) -> None:
    """A release may add a cleanup: existing objects get its finalizer, and nothing fires again."""
    old = Operator(resource)
    old.on.create(*old.resource)(old.noting("create"))
    old.on.delete(*old.resource)(old.noting("delete"))
    with running(old.registry, server, resource):
        create(api, resource)
        wait_until(lambda: old.called("create"))
        wait_until(
            lambda: "last-handled" in api.get(resource.path_to("one")).text,
        )
    new = Operator(resource)
    new.on.create(*new.resource)(new.noting("create"))
    new.on.delete(*new.resource)(new.noting("delete"))
    new.on.resume(*new.resource)(new.noting("resume"))
    new.on.delete(*new.resource, finalizer="backups")(new.noting("backups"))
    with running(new.registry, server, resource):
        wait_until(lambda: new.called("resume"))
        assert new.calls == [("resume", [MAIN, f"{MAIN}.backups"])]
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)
    assert [new.called(what) for what in ("create", "delete", "backups")] == [0, 1, 1]


def test_a_cleanup_with_sub_handlers_is_done_when_they_are(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """The finalizer of a cleanup stays while its sub-handlers are tried again."""

    @operator.on.delete(*operator.resource, finalizer="backups")
    def cleanup(spec: kopf.Spec, **_: Any) -> None:
        for backup in spec["backups"]:

            @kopf.subhandler(id=backup)
            def drop(retry: int, body: kopf.Body, backup: str = backup, **_: Any) -> None:
                held = f"{MAIN}.backups" in body["metadata"]["finalizers"]
                operator.calls.append((backup, retry, held))
                if retry == 0:
                    raise kopf.TemporaryError("busy", delay=0.1)

    with running(operator.registry, server, resource):
        body = resource.body("one", spec={"backups": ["monday", "tuesday"]})
        api.create(resource.path, body).raise_for_status()
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert sorted(operator.calls) == [
        ("monday", 0, True),
        ("monday", 1, True),
        ("tuesday", 0, True),
        ("tuesday", 1, True),
    ]


def test_an_object_deleted_while_the_operator_was_down_gets_its_cleanups(
    server: Server, api: Api, resource: Resource, seen: Watched
) -> None:
    """All finalizers hold the object until the operator is back."""
    for attempt in range(2):
        operator = Operator(resource)
        operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))
        operator.on.delete(*operator.resource)(operator.noting("delete"))
        with running(operator.registry, server, resource):
            if attempt == 0:
                create(api, resource)
                wait_until(lambda: finalizers_now(api, resource))
            else:
                seen.wait_for("DELETED", "one")
        if attempt == 0:
            delete(api, resource)
            assert finalizers_now(api, resource) == [f"{MAIN}.backups", MAIN]
    assert sorted(what for what, _ in operator.calls) == ["backups", "delete"]


def test_a_cleanup_that_is_released_by_hand_ends_and_no_other_does(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """The object goes when the others are done: nobody has to take a second finalizer off."""

    @operator.on.delete(*operator.resource, finalizer="accounts", id="accounts")
    def accounts(**_: Any) -> None:
        operator.calls.append(("accounts", []))
        raise kopf.TemporaryError("the cloud is gone for good", delay=0.1)

    go = threading.Event()

    @operator.on.delete(*operator.resource, finalizer="backups", id="backups")
    def backups(**kwargs: Any) -> None:
        operator.noting("backups")(**kwargs)
        if not go.is_set():
            raise kopf.TemporaryError("not yet", delay=0.1)

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
        delete(api, resource)
        wait_until(lambda: operator.called("accounts") and operator.called("backups"))
        release_by_hand(api, resource, f"{MAIN}.accounts")
        wait_until(lambda: f"{MAIN}.accounts" not in (finalizers_now(api, resource) or []))
        go.set()
        seen.wait_for("DELETED", "one", timeout=10)


def release_by_hand(api: Api, resource: Resource, name: str) -> None:
    """What the documented command does, as often as it takes."""

    def released() -> bool:
        listed = finalizers_now(api, resource) or []
        if name not in listed:
            return True
        path = f"/metadata/finalizers/{listed.index(name)}"
        patch = [{"op": "test", "path": path, "value": name}, {"op": "remove", "path": path}]
        return api.json_patch(resource.path_to("one"), patch).status_code == 200

    wait_until(released)


def has_status(seen: Watched, status: dict[str, int]) -> bool:
    return seen.of("one")[-1][1].get("status") == status


def test_a_cleanup_is_called_once_while_a_daemon_takes_its_time(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """Its finalizer leaves at once; the operator's own stays until the daemon has ended."""
    begun, ended = threading.Event(), threading.Event()

    @operator.on.daemon(*operator.resource, finalizer="replicas")
    async def watch(stopped: kopf.DaemonStopped, **_: Any) -> None:
        begun.set()
        await stopped.wait()
        while not ended.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))
    settings = kopf.OperatorSettings()
    settings.background.cancellation_polling = 0.1
    with running(operator.registry, server, resource, settings=settings):
        create(api, resource)
        wait_until(begun.is_set)
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
        delete(api, resource)
        wait_until(functools.partial(has_now, api, resource, [MAIN]))
        for number in range(5):
            status = {"written": number}
            path = resource.path_to("one", "status")
            api.merge_patch(path, {"status": status}).raise_for_status()
            wait_until(functools.partial(has_status, seen, status))
        ended.set()
        seen.wait_for("DELETED", "one", timeout=10)
    assert operator.called("backups") == 1
