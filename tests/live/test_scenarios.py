"""Operators with the library at work, on both API servers: what an operator author relies on.

Each test runs real Kopf operators on one custom resource, and judges by an independent watch.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest

import kopf_finalizers

from ..support.histories import history, turnover
from ..support.operators import Operator, running
from ..support.servers import Api, Resource, Server, Watched, wait_until

MAIN = "mycompany.com/db-operator"
KOPF_DEFAULT = "kopf.zalando.org/KopfFinalizerMarker"


@pytest.fixture
def operator(resource: Resource) -> Operator:
    return Operator(resource)


@pytest.fixture
def seen(api: Api, resource: Resource) -> Iterator[Watched]:
    with api.watching(resource.path) as seen:
        yield seen


def create(api: Api, resource: Resource, name: str = "one", **metadata: Any) -> dict[str, Any]:
    answer = api.create(resource.path, resource.body(name, **metadata)).raise_for_status()
    return dict(answer.json())


def delete(api: Api, resource: Resource, name: str = "one") -> None:
    api.delete(resource.path_to(name)).raise_for_status()


def finalizers_now(api: Api, resource: Resource, name: str = "one") -> list[str] | None:
    answer = api.get(resource.path_to(name))
    if answer.status_code == 404:
        return None
    return list(answer.raise_for_status().json()["metadata"].get("finalizers", []))


def has_now(api: Api, resource: Resource, expected: list[str]) -> bool:
    return sorted(finalizers_now(api, resource) or []) == expected


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


def test_the_finalizer_is_stored_before_any_handler_runs(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Also where the object starts to match later, when Kopf's own finalizer is there already."""
    operator.on.create(*operator.resource)(operator.noting("create"))
    operator.on.delete(*operator.resource)(operator.noting("delete"))
    operator.on.update(*operator.resource, finalizer="guard", labels={"guarded": "yes"})(
        operator.noting("update")
    )
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        api.merge_patch(
            resource.path_to("one"),
            {"metadata": {"labels": {"guarded": "yes"}}, "spec": {"size": 2}},
        ).raise_for_status()
        wait_until(lambda: operator.called("update"))
        assert operator.calls == [("create", [MAIN]), ("update", [MAIN, f"{MAIN}.guard"])]
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)


def test_a_handler_that_waited_for_its_finalizer_has_lost_no_attempt(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Waiting for the finalizer is no retry: even a handler with one attempt gets it."""

    @operator.on.create(*operator.resource, finalizer="guard", retries=1)
    def create_fn(retry: int, **_: Any) -> None:
        operator.calls.append(("create", retry))

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("create"))
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)
    assert operator.calls == [("create", 0)]


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


def test_an_object_made_again_under_the_same_name_is_handled_as_a_new_one(
    server: Server, api: Api, resource: Resource, seen: Watched, operator: Operator
) -> None:
    """Every one of the objects gets its own creation, finalizers and cleanup."""

    @operator.on.create(*operator.resource, finalizer="backups")
    def create_fn(uid: str, body: kopf.Body, **_: Any) -> None:
        operator.calls.append(("create", uid, f"{MAIN}.backups" in body["metadata"]["finalizers"]))

    @operator.on.delete(*operator.resource, finalizer="backups")
    def cleanup(uid: str, **_: Any) -> None:
        operator.calls.append(("cleanup", uid, True))

    uids = list[str]()
    with running(operator.registry, server, resource):
        for number in range(3):
            uids.append(create(api, resource)["metadata"]["uid"])
            wait_until(functools.partial(lambda n: operator.called("create") > n, number))
            delete(api, resource)
            wait_until(lambda: finalizers_now(api, resource) is None)
    assert operator.calls == [
        call for uid in uids for call in (("create", uid, True), ("cleanup", uid, True))
    ]


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


def test_retries_go_on_where_an_event_handler_asks_for_a_finalizer_each_time(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """Asking for a finalizer that is there already does not make Kopf forget a retry."""

    @operator.on.event(*operator.resource)
    def guard(patch: kopf.Patch, **_: Any) -> None:
        operator.finalizers.add(patch, "by-hand")

    @operator.on.create(*operator.resource)
    def create_fn(retry: int, **_: Any) -> None:
        operator.calls.append(("create", retry))
        if retry < 2:
            raise kopf.TemporaryError("busy", delay=0.2)

    @operator.on.delete(*operator.resource)
    def delete_fn(patch: kopf.Patch, **_: Any) -> None:
        operator.finalizers.remove(patch, "by-hand")

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: operator.called("create") == 3, timeout=10)
        assert f"{MAIN}.by-hand" in (finalizers_now(api, resource) or [])
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)


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


def test_a_decorated_handler_gets_what_kopf_gives_it(
    server: Server, api: Api, resource: Resource, operator: Operator
) -> None:
    """The keyword arguments are those of Kopf's own decorators, with and without a finalizer."""
    arguments = dict[str, set[str]]()

    def noting(what: str) -> Callable[..., None]:
        def handler(**kwargs: Any) -> None:
            arguments[what] = set(kwargs)

        return handler

    with_param: dict[str, Any] = {"param": 1, "registry": operator.registry}
    for kind in ("create", "delete"):
        plain: Callable[..., Any] = getattr(kopf.on, kind)
        plain(*operator.resource, id=f"plain-{kind}", **with_param)(noting(f"plain {kind}"))
        own: Callable[..., Any] = getattr(operator.on, kind)
        own(*operator.resource, id=f"own-{kind}", **with_param)(noting(f"own {kind}"))
        own(*operator.resource, id=f"guarded-{kind}", finalizer="x", **with_param)(
            noting(f"guarded {kind}")
        )
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: len(arguments) == 3)
        delete(api, resource)
        wait_until(lambda: finalizers_now(api, resource) is None)
    for kind in ("create", "delete"):
        assert arguments[f"own {kind}"] == arguments[f"plain {kind}"]
        assert arguments[f"guarded {kind}"] == arguments[f"plain {kind}"]
        assert {"body", "patch", "retry", "param", "diff"} <= arguments[f"plain {kind}"]


def test_one_function_may_be_the_cleanup_of_several_finalizers(
    server: Server, api: Api, resource: Resource, operator: Operator, seen: Watched
) -> None:
    """Stacked decorators each register the function; methods are as good as functions."""

    class Cleaner:
        @staticmethod
        def drop(**_: Any) -> None:
            operator.calls.append(("drop",))

        def release(self, **_: Any) -> None:
            operator.calls.append(("release",))

    operator.on.delete(*operator.resource, finalizer="one", id="one")(
        operator.on.delete(*operator.resource, finalizer="two", id="two")(Cleaner.drop)
    )
    operator.on.delete(*operator.resource, finalizer="three")(Cleaner().release)
    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert sorted(operator.calls) == [("drop",), ("drop",), ("release",)]
    assert turnover(seen, "one") == {
        f"{MAIN}{suffix}": (1, 1) for suffix in ("", ".one", ".two", ".three")
    }


def test_a_careless_function_of_a_handler_does_not_block_the_deletion(
    server: Server, api: Api, resource: Resource, operator: Operator, seen: Watched
) -> None:
    """A function on patch.fns that adds a finalizer to an object being deleted is dropped."""

    def careless(body: kopf.RawBody) -> None:
        body["metadata"].setdefault("finalizers", []).append("careless.org/f")

    @operator.on.delete(*operator.resource, finalizer="backups")
    def cleanup(patch: kopf.Patch, retry: int, **_: Any) -> None:
        operator.calls.append(("cleanup", retry))
        if retry == 0:
            patch.fns.append(careless)
            raise kopf.TemporaryError("busy", delay=0.1)

    with running(operator.registry, server, resource):
        create(api, resource)
        wait_until(lambda: finalizers_now(api, resource))
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    assert operator.calls == [("cleanup", 0), ("cleanup", 1)]


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
