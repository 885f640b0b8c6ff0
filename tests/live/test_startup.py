"""Operators that say who they are in a startup handler, and what the log says of them."""

import functools
import logging
from pathlib import Path
from typing import Any

import kopf
import pytest

from kopf_finalizers import Finalizers, configure

from ..support.histories import turnover
from ..support.operators import Operator, OperatorProcess, running
from ..support.servers import Api, KubeApiServer, Resource, Server, client_of, wait_until

MAIN = "mycompany.com/db-operator"


def test_an_operator_may_say_who_it_is_in_a_startup_handler(
    server: Server, api: Api, resource: Resource, tmp_path: Path
) -> None:
    """With `settings=` the identity is in force at once, also for what is declared after it."""
    operator = OperatorProcess("in_startup.py", server, tmp_path / "log", resource=resource)
    with api.watching(resource.path) as seen, operator:
        api.create(resource.path, resource.body("one")).raise_for_status()
        handled = "db-operator.mycompany.com/last-handled-configuration"
        seen.wait_until(lambda _: any(handled in str(body) for _, body in seen.of("one")))
        api.delete(resource.path_to("one")).raise_for_status()
        seen.wait_for("DELETED", "one")
    assert turnover(seen, "one") == {MAIN: (1, 1), f"{MAIN}.backups": (1, 1)}
    log = operator.output()
    assert log.count("The backups are dropped.") == 1
    assert log.count(f"This operator is {MAIN}. Its records are under") == 1
    assert log.count(f"Another dedicated finalizer of this operator: {MAIN}.backups.") == 1
    assert "Traceback" not in log


def test_an_operator_that_says_it_too_late_does_not_begin_to_work(
    in_process_server: Server, tmp_path: Path
) -> None:
    """Without `settings=` the call is refused with the line that would do; no object is touched."""
    in_process_server.define("example.com", "v1", "late", kind="Late")
    resource = Resource("example.com", "v1", "late", "Late").within("default")
    operator = OperatorProcess(
        "in_startup.py", in_process_server, tmp_path / "log", resource=resource, LEFT_OUT="yes"
    )
    line = (
        'configure(domain="mycompany.com", operator="db-operator", settings=settings), or call'
        " configure() outside of handlers"
    )
    with operator:
        wait_until(lambda: line in operator.output())
    assert "Initial authentication" not in operator.output()


def test_handlers_declared_after_it_are_moved_to_the_new_names(
    server: Server, api: Api, resource: Resource
) -> None:
    """A rename that is asked for in a startup handler reaches the handlers that it declares."""
    registry = kopf.OperatorRegistry()
    former = "mycompany.com/old"
    found = list[Finalizers]()

    @kopf.on.startup(registry=registry)
    async def begin(settings: kopf.OperatorSettings, **_: Any) -> None:
        finalizers = configure(
            "mycompany.com",
            "db-operator",
            former=[former],
            former_storage_prefix="old.mycompany.com",
            registry=registry,
            settings=settings,
        )
        things = (resource.group, resource.version, resource.plural)
        finalizers.on.delete(*things, id="delete")(lambda **_: None)
        found.append(finalizers)

    api.create(resource.path, resource.body("one", finalizers=[former])).raise_for_status()
    with api.watching(resource.path) as seen, running(registry, server, resource):
        seen.wait_until(
            lambda _: any(body["metadata"]["finalizers"] == [MAIN] for _, body in seen.of("one"))
        )
        api.delete(resource.path_to("one")).raise_for_status()
        seen.wait_for("DELETED", "one")
    assert found[0].former == (former,)


@pytest.mark.skipif(
    not hasattr(kopf.OperatorSettings().watching, "label_selectors"),
    reason="this Kopf has no server-side selectors",
)
def test_an_object_that_leaves_the_selection_is_named_with_what_releases_it(
    real_server: KubeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Alive and out of the operator's sight, it would hang later: the log says so at once."""
    real_server.define("example.com", "v1", "selected", kind="Selected")
    resource = Resource("example.com", "v1", "selected", "Selected").within("default")
    operator = Operator(resource)
    operator.on.delete(*operator.resource, finalizer="backups")(operator.noting("backups"))

    @kopf.on.startup(registry=operator.registry)
    def select(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.watching.label_selectors[operator.resource] = "shard=1"

    api = client_of(real_server)
    with (
        caplog.at_level(logging.WARNING),
        api.watching(resource.path) as seen,
        running(operator.registry, real_server, resource),
    ):
        api.create(resource.path, resource.body("one", labels={"shard": "1"})).raise_for_status()
        api.create(resource.path, resource.body("two", labels={"shard": "1"})).raise_for_status()
        for name in ("one", "two"):
            seen.wait_until(functools.partial(_is_guarded, name=name))
        api.delete(resource.path_to("two")).raise_for_status()
        seen.wait_for("DELETED", "two")
        api.merge_patch(
            resource.path_to("one"), {"metadata": {"labels": {"shard": "2"}}}
        ).raise_for_status()
        wait_until(lambda: "has left what the operator watches" in caplog.text)
    api.close()
    (warning,) = [one.getMessage() for one in caplog.records if "has left" in one.getMessage()]
    assert f"with {MAIN}.backups, {MAIN} on it" in warning
    assert "kubectl patch selected.v1.example.com one --namespace default" in warning
    assert "\n" not in warning


def _is_guarded(seen: Any, *, name: str) -> bool:
    return any(len(body["metadata"].get("finalizers", [])) == 2 for _, body in seen.of(name))
