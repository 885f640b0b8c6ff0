"""What would happen in silence, and is said: with real operators, on both API servers."""

import logging
from typing import Any

import kopf
import pytest

from ..support.objects import create, delete, finalizers_now
from ..support.operators import MAIN, Operator, running
from ..support.servers import Api, Resource, Server, Watched, wait_until

BACKUPS, THEIRS = f"{MAIN}.backups", "other.org/f"


def said(caplog: pytest.LogCaptureFixture, code: str, level: int = logging.WARNING) -> list[str]:
    return [
        found.getMessage()
        for found in caplog.records
        if found.getMessage().endswith(f" [{code}]") and found.levelno == level
    ]


def test_a_cleanup_that_has_begun_and_matches_no_more_is_told_of(
    server: Server,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The object goes, since Kopf calls the cleanup no more, and something may stay behind."""

    @operator.on.delete(*operator.resource, finalizer="backups", labels={"keep": "1"})
    def drop(**_: Any) -> None:
        operator.calls.append(("drop",))
        raise kopf.TemporaryError("not yet", delay=3600)

    with running(operator.registry, server, resource):
        create(api, resource, labels={"keep": "1"})
        wait_until(lambda: BACKUPS in (finalizers_now(api, resource) or []))
        delete(api, resource)
        wait_until(lambda: "purpose" in api.get(resource.path_to("one")).text)
        api.merge_patch(resource.path_to("one"), {"metadata": {"labels": {"keep": None}}})
        seen.wait_for("DELETED", "one")
    (warning,) = said(caplog, "no-longer-matching")
    assert warning.startswith(f"Releasing {BACKUPS} though its cleanup has begun")
    assert operator.calls == [("drop",)]


def test_a_finalizer_of_a_handler_that_was_removed_is_told_of(
    server: Server, api: Api, resource: Resource, seen: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """The object hangs on it until somebody takes it off, and the log says so."""
    former, later = Operator(resource), Operator(resource)
    former.on.create(*former.resource, finalizer="backups")(former.noting("create"))
    later.on.delete(*later.resource)(later.noting("drop"))
    with running(former.registry, server, resource):
        create(api, resource)
        wait_until(lambda: former.called("create"))
    with running(later.registry, server, resource):
        wait_until(lambda: MAIN in (finalizers_now(api, resource) or []))
        assert said(caplog, "undeclared") == []
        delete(api, resource)
        wait_until(lambda: said(caplog, "undeclared"))
        wait_until(lambda: finalizers_now(api, resource) == [BACKUPS])
        api.merge_patch(resource.path_to("one"), {"metadata": {"finalizers": []}})
        seen.wait_for("DELETED", "one")
    (warning,) = said(caplog, "undeclared")
    assert warning.startswith(f"No handler declares {BACKUPS}, which is on {resource.kind} ")
    assert later.called("drop") == 1


def test_a_handler_that_replaces_the_list_is_told_of_and_takes_nobodys_finalizer(
    server: Server,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where nothing else of the library has a part in its patch; the rest of it is sent."""

    @kopf.on.create(*operator.resource, registry=operator.registry)
    def replaces(patch: kopf.Patch, **_: Any) -> None:
        operator.calls.append(("create",))
        patch.metadata["finalizers"] = ["mine.org/f"]
        patch.metadata["labels"] = {"is": "created"}

    with running(operator.registry, server, resource):
        body = create(api, resource, finalizers=[THEIRS])
        path = resource.path_to("one")
        wait_until(lambda: api.get(path).json()["metadata"].get("labels") == {"is": "created"})
        assert finalizers_now(api, resource) == [THEIRS]
        api.merge_patch(path, {"spec": {"size": 2}}).raise_for_status()
        wait_until(lambda: '\\"size\\":2' in api.get(path).text)  # the last state that Kopf keeps
        api.merge_patch(path, {"metadata": {"finalizers": []}})
        delete(api, resource)
        seen.wait_for("DELETED", "one")
    (error,) = said(caplog, "whole-list", logging.ERROR)
    assert error.startswith(f"Not sent, of {body['metadata']['namespace']}/one: finalizers")
    assert operator.calls == [("create",)]
