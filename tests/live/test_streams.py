"""One operator with handlers on several versions of a kind, or on a kind in two groups.

Kopf has a stream for each, and every one of them takes the operator's finalizer off for itself.
"""

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest

from kopf_finalizers._dedicated import sent
from kopf_finalizers.testing import ApiServer

from ..support.answers import change_definition
from ..support.histories import turnover
from ..support.objects import create, delete, finalizers_now, has_now
from ..support.operators import MAIN, Operator, running
from ..support.proxies import Asked, Fate, Proxy
from ..support.servers import Api, Body, Resource, Server, Watched, client_of, wait_until

OLD = Resource("streams.example.com", "v1beta1", "olds", "Old")
NEW = Resource("streams.example.com", "v1", "olds", "Old")
EXTENSIONS = Resource("extensions", "v1beta1", "ingresses", "Ingress")
NETWORKING = Resource("networking.k8s.io", "v1beta1", "ingresses", "Ingress")
BACKUPS, DNS = f"{MAIN}.backups", f"{MAIN}.dns"


@pytest.fixture(scope="module")
def olds(server: Server) -> None:
    """A kind of which an old version is served as well."""
    server.define("streams.example.com", "v1", "olds", kind="Old", other_versions=["v1beta1"])


@pytest.fixture
def new(resource: Resource, olds: None) -> Resource:
    return NEW.within(resource.namespace)


@pytest.fixture
def old(resource: Resource) -> Resource:
    return OLD.within(resource.namespace)


@pytest.fixture
def seen(api: Api, new: Resource) -> Iterator[Watched]:
    with api.watching(new.path) as seen:
        yield seen


def names_of(resource: Resource) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.plural


def failing(operator: Operator, what: str, times: int) -> Callable[..., None]:
    """A cleanup that succeeds at last, and notes that it did."""

    def cleanup(retry: int, **_: Any) -> None:
        if retry < times:
            raise kopf.TemporaryError("later", delay=0.2)
        operator.calls.append((what, []))

    cleanup.__qualname__ = cleanup.__name__ = what
    return cleanup


def is_quiet(seen: Watched, *, seconds: float = 1.0) -> bool:
    """Whether nothing has happened for a while."""
    before = len(seen.of())
    time.sleep(seconds)
    return len(seen.of()) == before


def settle(seen: Watched) -> None:
    """Wait until nobody changes anything any more: who flaps never does."""
    wait_until(functools.partial(is_quiet, seen), timeout=15, what="no more changes")


def test_an_event_handler_on_another_version(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """A stream without cleanups leaves the finalizer that the other one needs, dead or alive."""
    operator = Operator(new)
    operator.on.event(*names_of(old))(operator.noting("event"))
    drop = failing(operator, "drop", 2)
    operator.on.delete(*names_of(new), finalizer="backups")(drop)
    with running(operator.registry, server, new):
        create(api, new)
        wait_until(functools.partial(has_now, api, new, [MAIN, BACKUPS]))
        settle(seen)
        delete(api, new)
        seen.wait_for("DELETED", "one")
    assert operator.called("drop") == 1
    assert turnover(seen, "one") == {MAIN: (1, 1), BACKUPS: (1, 1)}


@pytest.mark.parametrize("finalizer", [None, "backups"], ids=["kopfs", "dedicated"])
def test_cleanups_on_both_versions(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched, finalizer: str | None
) -> None:
    """The finalizer stays until the cleanups of both streams are done, each of them once."""
    operator = Operator(new)
    options: Body = {"finalizer": finalizer} if finalizer else {}
    operator.on.delete(*names_of(old), **options)(failing(operator, "old", 3))
    operator.on.delete(*names_of(new))(failing(operator, "new", 0))
    operator.on.create(*names_of(new))(operator.noting("created"))
    with running(operator.registry, server, new):
        create(api, new)
        wait_until(lambda: operator.called("created"))
        settle(seen)
        delete(api, new)
        seen.wait_for("DELETED", "one")
    assert (operator.called("old"), operator.called("new")) == (1, 1)
    assert set(turnover(seen, "one").values()) == {(1, 1)}


def test_one_finalizer_for_cleanups_on_both_versions(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """A dedicated finalizer that both streams have declared waits for the cleanups of both."""
    operator = Operator(new)
    operator.on.delete(*names_of(old), finalizer="backups")(failing(operator, "old", 3))
    operator.on.delete(*names_of(new), finalizer="backups", labels={"on": "1"})(
        failing(operator, "new", 0)
    )
    with running(operator.registry, server, new):
        create(api, new, labels={"on": "1"})
        create(api, new, name="two")
        for name in ("one", "two"):
            wait_until(lambda: finalizers_now(api, new, name))  # noqa: B023
        settle(seen)
        for name in ("one", "two"):
            delete(api, new, name)
            seen.wait_for("DELETED", name)
    assert (operator.called("old"), operator.called("new")) == (2, 1)
    for name in ("one", "two"):
        assert set(turnover(seen, name).values()) == {(1, 1)}


def test_everything_beside_one_version(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """Handlers of everything, or of a whole group, are in every stream of an object."""
    operator = Operator(new)
    # Kopf takes everything for the preferred version of everything.
    operator.on.event(kopf.EVERYTHING)(operator.noting("event"))
    operator.on.update("streams.example.com", kopf.EVERYTHING)(operator.noting("update"))
    operator.on.delete(*names_of(old), finalizer="backups")(failing(operator, "drop", 2))
    with running(operator.registry, server, new):
        create(api, new)
        wait_until(functools.partial(has_now, api, new, [MAIN, BACKUPS]))
        settle(seen)
        api.merge_patch(new.path_to("one"), {"spec": {"x": 2}}).raise_for_status()
        wait_until(lambda: operator.called("update"))
        settle(seen)
        delete(api, new)
        seen.wait_for("DELETED", "one")
    assert operator.called("drop") == 1
    assert turnover(seen, "one") == {MAIN: (1, 1), BACKUPS: (1, 1)}


def test_one_kind_in_two_groups(server: Server, api: Api, resource: Resource) -> None:
    """Streams of one kind in two groups are those of the same objects, too."""
    extensions = EXTENSIONS.within(resource.namespace)
    networking = NETWORKING.within(resource.namespace)
    operator = Operator(networking)
    operator.on.delete(*names_of(extensions), finalizer="dns")(failing(operator, "dns", 3))
    operator.on.delete(*names_of(networking), finalizer="backups")(failing(operator, "backups", 0))
    spec = {"backend": {"serviceName": "a", "servicePort": 80}}
    with api.watching(networking.path) as seen, running(operator.registry, server, networking):
        api.create(extensions.path, extensions.body("one", spec=spec)).raise_for_status()
        wait_until(functools.partial(has_now, api, networking, [MAIN, BACKUPS, DNS]))
        settle(seen)
        delete(api, networking)
        seen.wait_for("DELETED", "one")
    assert (operator.called("dns"), operator.called("backups")) == (1, 1)
    assert set(turnover(seen, "one").values()) == {(1, 1)}


def test_a_restart_while_one_stream_has_finished(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """An operator that starts anew waits for the other stream, even for its list.

    And it repeats nothing.
    """
    calls = list[str]()

    def operator(*, is_ready: bool) -> Operator:
        made = Operator(new)

        def slow(**_: Any) -> None:
            calls.append("slow" if is_ready else "too early")
            if not is_ready:
                raise kopf.TemporaryError("later", delay=0.2)

        made.on.delete(*names_of(old), id="slow")(slow)
        made.on.delete(*names_of(new), id="fast", finalizer="dns")(lambda **_: calls.append("fast"))
        made.on.event(*names_of(old))(made.noting("event"))
        return made

    first, second = operator(is_ready=False), operator(is_ready=True)
    with running(first.registry, server, new):
        create(api, new)
        wait_until(functools.partial(has_now, api, new, [MAIN, DNS]))
        settle(seen)
        delete(api, new)
        wait_until(lambda: calls.count("too early") >= 2 and "fast" in calls)
        assert MAIN in (finalizers_now(api, new) or [])
    late = Fate(held=threading.Event())
    with Proxy(server) as proxy:
        assert late.held is not None
        proxy.rules.append(lambda asked: late if asked.path.startswith(old.path) else None)
        with running(second.registry, proxy, new):
            assert late.reached.wait(timeout=30)
            settle(seen)
            late.held.set()
            seen.wait_for("DELETED", "one")
    assert calls.count("fast") == 1
    assert calls.count("slow") == 1
    assert turnover(seen, "one")[MAIN] == (1, 1)


def test_an_object_that_goes_before_a_stream_has_written(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """What has succeeded in one stream is not done again when the other one lets the object go.

    Kopf has events of before in the first one still, and its record was written in vain.
    """
    operator = Operator(new)
    operator.on.delete(*names_of(old))(failing(operator, "old", 0))
    operator.on.delete(*names_of(new))(failing(operator, "new", 0))
    told = list[tuple[str, str]]()
    for version in (old, new):

        @operator.on.event(*names_of(version), id=f"event-{version.version}")
        def note(type: str | None, resource: kopf.Resource, **_: Any) -> None:  # noqa: A002
            told.append((resource.version, str(type)))

    late = Fate(held=threading.Event())
    assert late.held is not None
    with Proxy(server) as proxy, running(operator.registry, proxy, new):
        create(api, new)
        wait_until(functools.partial(has_now, api, new, [MAIN]))
        settle(seen)
        proxy.rules.append(lambda asked: late if is_record(asked, of="old") else None)
        delete(api, new)
        assert late.reached.wait(timeout=30)
        wait_until(lambda: operator.called("new"))
        api.merge_patch(new.path_to("one"), {"metadata": {"labels": {"more": "events"}}})
        wait_until(lambda: (new.version, "DELETED") in told)
        late.held.set()
        wait_until(lambda: (old.version, "DELETED") in told)
    assert (operator.called("old"), operator.called("new")) == (1, 1)


def test_an_object_that_a_stream_has_not_seen_yet(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """An object waits for the cleanup of a stream that is late, and has not seen it at all."""
    operator = Operator(new)
    operator.on.delete(*names_of(old))(failing(operator, "old", 0))
    operator.on.delete(*names_of(new))(failing(operator, "new", 0))
    late = Fate(held=threading.Event())
    listed = list[Asked]()

    def watching(asked: Asked) -> Fate | None:
        """After the list comes the watch."""
        if asked.path == old.path:
            listed.append(asked)
        return late if len(listed) > 1 and asked.path == old.path else None

    assert late.held is not None
    with Proxy(server) as proxy:
        proxy.rules.append(watching)
        with running(operator.registry, proxy, new):
            assert late.reached.wait(timeout=30)
            create(api, new)
            wait_until(functools.partial(has_now, api, new, [MAIN]))
            delete(api, new)
            wait_until(lambda: operator.called("new"))
            settle(seen)
            assert finalizers_now(api, new) == [MAIN]
            late.held.set()
            seen.wait_for("DELETED", "one")
    assert (operator.called("old"), operator.called("new")) == (1, 1)


def test_an_object_of_which_a_stream_has_not_seen_the_last_change(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """What a stream has said before the deletion does not count, if a change came in between."""
    operator = Operator(new)
    operator.on.delete(*names_of(old), labels={"old": "1"})(failing(operator, "old", 0))
    operator.on.delete(*names_of(new))(failing(operator, "new", 0))
    busy, go_on = threading.Event(), threading.Event()

    @operator.on.event(*names_of(old), labels={"busy": "1"})
    def be_busy(**_: Any) -> None:
        busy.set()
        go_on.wait(timeout=60)

    with running(operator.registry, server, new):
        create(api, new)
        wait_until(functools.partial(has_now, api, new, [MAIN]))
        settle(seen)
        api.merge_patch(new.path_to("one"), {"metadata": {"labels": {"busy": "1"}}})
        assert busy.wait(timeout=30)
        api.merge_patch(new.path_to("one"), {"metadata": {"labels": {"busy": "0", "old": "1"}}})
        delete(api, new)
        wait_until(lambda: operator.called("new"))
        settle(seen)
        assert finalizers_now(api, new) == [MAIN]
        go_on.set()
        seen.wait_for("DELETED", "one")
    assert (operator.called("old"), operator.called("new")) == (1, 1)


def is_record(asked: Asked, *, of: str) -> bool:
    """Whether an operator writes how far a cleanup of it is."""
    return asked.method == "PATCH" and f"db-operator.mycompany.com/{of}".encode() in asked.body


def test_a_restart_while_objects_live(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """At its start an operator takes nothing off, whichever stream is the first."""
    for _ in range(2):
        operator = Operator(new)
        operator.on.event(*names_of(old))(operator.noting("event"))
        operator.on.delete(*names_of(new))(failing(operator, "drop", 0))
        with running(operator.registry, server, new):
            if not seen.of("one"):
                create(api, new)
            wait_until(functools.partial(has_now, api, new, [MAIN]))
            wait_until(lambda: operator.called("event"))  # noqa: B023
            settle(seen)
            assert turnover(seen, "one") == {MAIN: (1, 0)}


def test_filters_that_let_go(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """An object that no stream needs any more loses the finalizer; one that one needs keeps it."""
    operator = Operator(new)
    operator.on.delete(*names_of(old), labels={"old": "1"})(failing(operator, "old", 0))
    operator.on.delete(*names_of(new), labels={"new": "1"})(failing(operator, "new", 0))
    operator.on.update(*names_of(new))(operator.noting("update"))
    operator.on.create(*names_of(new))(operator.noting("create"))
    with running(operator.registry, server, new):
        create(api, new, labels={"old": "1", "new": "1"})
        wait_until(lambda: operator.called("create"))
        settle(seen)
        api.merge_patch(new.path_to("one"), {"metadata": {"labels": {"new": "0"}}})
        settle(seen)
        assert has_now(api, new, [MAIN])
        assert operator.called("update") == 1
        api.merge_patch(new.path_to("one"), {"metadata": {"labels": {"old": "0"}}})
        wait_until(functools.partial(has_now, api, new, []))
        settle(seen)
    assert turnover(seen, "one") == {MAIN: (1, 1)}


def test_filters_that_only_their_own_stream_can_be_asked(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """A dedicated finalizer is on and off as its own stream says, which another one does not ask.

    A version may have other fields, and a callback is told of which version an object is.
    """
    operator = Operator(new)

    def is_on(resource: kopf.Resource, labels: kopf.Labels, **_: Any) -> bool:
        return resource.version == old.version and labels.get("on") == "1"

    operator.on.delete(*names_of(old), finalizer="backups", when=is_on)(failing(operator, "old", 2))
    operator.on.delete(*names_of(new))(failing(operator, "new", 0))
    with running(operator.registry, server, new):
        create(api, new, labels={"on": "1"})
        for number, on in enumerate("101"):
            api.merge_patch(new.path_to("one"), {"metadata": {"labels": {"on": on}}})
            names = [MAIN, BACKUPS] if on == "1" else [MAIN]
            wait_until(functools.partial(has_now, api, new, names), what=f"{names} ({number})")
            settle(seen)
        assert turnover(seen, "one") == {MAIN: (1, 0), BACKUPS: (2, 1)}
        delete(api, new)
        seen.wait_for("DELETED", "one")
    assert turnover(seen, "one") == {MAIN: (1, 1), BACKUPS: (2, 2)}
    assert (operator.called("old"), operator.called("new")) == (1, 1)


def test_a_version_that_is_served_no_more(
    api_server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that has ended holds no object: nobody waits for its cleanups any more.

    Not on the real server: a busy one lets Kopf know too late, and Kopf itself gives up then.
    """
    caplog.set_level(logging.DEBUG)
    group = "ending.example.com"
    api_server.define(group, "v1", "olds", kind="Old", other_versions=["v1beta1"])
    new, old = (Resource(group, v, "olds", "Old") for v in ("v1", "v1beta1"))
    operator = Operator(new)
    operator.on.delete(*names_of(old))(failing(operator, "old", 0))
    operator.on.delete(*names_of(new))(failing(operator, "new", 0))
    with (
        contextlib.closing(client_of(api_server)) as api,
        running(operator.registry, api_server, new),
    ):
        create(api, new)
        wait_until(functools.partial(has_now, api, new, [MAIN]))
        change_definition(api, old, {"served": False})
        ended = f"Stopping the watch-stream for olds.v1beta1.{group}"
        wait_until(lambda: any(ended in message for message in caplog.messages))
        delete(api, new)
        wait_until(lambda: finalizers_now(api, new) is None)
    assert operator.called("new") == 1
    assert f"not succeeded: of olds.v1beta1.{group}" in caplog.text


@pytest.mark.parametrize("waiting", ["hidden", "finished"])
def test_a_version_that_is_served_no_more_in_the_middle_of_a_deletion(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, waiting: str
) -> None:
    """No event tells that a stream has ended, so one that waits for it looks by itself."""
    monkeypatch.setattr(sent, "PAUSES", (0.3, 0.6))
    group = f"{waiting}.example.com"
    api_server.define(group, "v1", "olds", kind="Old", other_versions=["v1beta1"])
    new, old = (Resource(group, v, "olds", "Old") for v in ("v1", "v1beta1"))
    operator = Operator(new)
    operator.on.event(*names_of(new))(operator.noting("event"))
    if waiting == "finished":
        operator.on.delete(*names_of(new))(failing(operator, "new", 0))
    tried = threading.Event()

    @operator.on.delete(*names_of(old))
    def never(**_: Any) -> None:
        tried.set()
        raise kopf.TemporaryError("not yet", delay=600)

    with (
        contextlib.closing(client_of(api_server)) as api,
        api.watching(new.path) as seen,
        running(operator.registry, api_server, new),
    ):
        create(api, new)
        wait_until(functools.partial(has_now, api, new, [MAIN]))
        settle(seen)
        delete(api, new)
        assert tried.wait(timeout=30)
        settle(seen)
        change_definition(api, old, {"served": False})
        wait_until(lambda: finalizers_now(api, new) is None)


@pytest.mark.parametrize("finalizer", [None, "dns"], ids=["kopfs", "dedicated"])
def test_a_version_that_is_served_later(api_server: ApiServer, finalizer: str | None) -> None:
    """An operator that starts too early, as Kopf sees it, does not skip the cleanup there.

    Kopf asks once what is served. Not on the real server, which is late to say what it serves.
    """
    group = f"later-{finalizer}.example.com".lower()
    api_server.define(group, "v1", "olds", kind="Old", other_versions=["v1beta1"])
    new, old = (Resource(group, v, "olds", "Old") for v in ("v1", "v1beta1"))
    options: Body = {"finalizer": finalizer} if finalizer else {}

    def operating() -> Operator:
        operator = Operator(new)
        operator.on.delete(*names_of(old), finalizer="backups")(failing(operator, "old", 1))
        operator.on.delete(*names_of(new), **options)(failing(operator, "new", 1))
        return operator

    all_names = sorted([MAIN, BACKUPS, *([DNS] if finalizer else [])])
    with contextlib.closing(client_of(api_server)) as api, api.watching(new.path) as seen:
        with running(operating().registry, api_server, new):
            create(api, new)
            wait_until(functools.partial(has_now, api, new, all_names))
        change_definition(api, old, {"served": False})
        early = operating()
        with running(early.registry, api_server, new):
            delete(api, new)
            wait_until(lambda: early.called("new"))
            settle(seen)
        assert finalizers_now(api, new) in ([MAIN, BACKUPS], [BACKUPS, MAIN])
        change_definition(api, old, {"served": True})
        late = operating()
        with running(late.registry, api_server, new):
            wait_until(lambda: finalizers_now(api, new) is None)
    assert early.called("new")
    assert not early.called("old")
    assert late.called("old") >= 1  # see Caveats of handlers.md


def test_a_deletion_in_the_middle_of_a_creation(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """A creation that is cut short by a deletion leaves no progress that would hold that up."""
    operator = Operator(new)
    operator.on.delete(*names_of(old))(failing(operator, "old", 1))
    operator.on.delete(*names_of(new))(failing(operator, "new", 1))
    tried = threading.Event()

    @operator.on.create(*names_of(new))
    def never(**_: Any) -> None:
        tried.set()
        raise kopf.TemporaryError("not yet", delay=60)

    with running(operator.registry, server, new):
        create(api, new)
        assert tried.wait(timeout=30)
        settle(seen)
        delete(api, new)
        seen.wait_for("DELETED", "one")
    assert [operator.called(what) for what in ("old", "new")] == [1, 1]


def test_a_creation_that_is_tried_again(
    server: Server, api: Api, old: Resource, new: Resource, seen: Watched
) -> None:
    """A stream that handles no changes does not take the others' changes for handled."""
    operator = Operator(new)
    operator.on.delete(*names_of(old))(failing(operator, "old", 0))
    operator.on.create(*names_of(new))(failing(operator, "create", 2))
    operator.on.update(*names_of(new))(failing(operator, "update", 2))
    with running(operator.registry, server, new):
        create(api, new)
        wait_until(lambda: operator.called("create"))
        settle(seen)
        api.merge_patch(new.path_to("one"), {"spec": {"x": 2}}).raise_for_status()
        wait_until(lambda: operator.called("update"))
        delete(api, new)
        seen.wait_for("DELETED", "one")
    assert [operator.called(what) for what in ("create", "update", "old")] == [1, 1, 1]
