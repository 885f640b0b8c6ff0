"""What is made of the settings where objects may be seen in several of Kopf's streams."""

import asyncio
import copy
import functools
import logging
from typing import Any, cast

import kopf
import pytest
from kopf._cogs.structs.finalizers import allow_deletion

from kopf_finalizers import Finalizers, OperatorIdentity
from kopf_finalizers._kopf import (
    guarding_handlers_of,
    handles_changes,
    is_watched,
    refuse_if_kopf_compares_otherwise,
)
from kopf_finalizers._recognised import RecognisedFinalizer, names_of, unhidden

from ..support.kopf_cycles import after, cycle

NAME = "mycompany.com/db-operator"
OLD, NEW = ("example.com", "v1beta1", "things"), ("example.com", "v1", "things")
IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")


def nothing(**_: Any) -> None: ...


def resource(version: str) -> kopf.Resource:
    return kopf.Resource("example.com", version, "things", kind="Thing", preferred=True)


@pytest.fixture
def registry() -> kopf.OperatorRegistry:
    return kopf.OperatorRegistry()


def test_a_hidden_finalizer_is_on_no_object() -> None:
    """Kopf finds a finalizer that is hidden nowhere, and finds it again when it is not."""
    hidden = False
    finalizer = RecognisedFinalizer(NAME, {NAME, "former.org/f"}, lambda: hidden)
    refuse_if_kopf_compares_otherwise(finalizer, finalizer.names)
    assert finalizer.may_hide
    hidden = True
    assert finalizer not in [NAME, "former.org/f"]
    assert finalizer != NAME
    assert unhidden(finalizer) == "former.org/f"
    assert copy.deepcopy(finalizer) == NAME
    assert names_of(finalizer) == {NAME, "former.org/f"}
    assert unhidden(NAME) == NAME
    assert names_of(NAME) == {NAME}


@pytest.mark.parametrize("several", [True, False])
def test_settings_of_an_operator(registry: kopf.OperatorRegistry, *, several: bool) -> None:
    """The finalizer can be hidden where it has to be, and is a plain string elsewhere."""
    finalizers = Finalizers(IDENTITY, registry=registry)
    finalizers.on.delete(*NEW)(nothing)
    if several:
        finalizers.on.event(*OLD)(nothing)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    assert settings.persistence.finalizer == NAME
    assert isinstance(settings.persistence.finalizer, RecognisedFinalizer) is several


def test_an_operator_that_needs_no_finalizer(registry: kopf.OperatorRegistry) -> None:
    """Where no handler needs the finalizer, no stream keeps it for another one."""
    finalizers = Finalizers(IDENTITY, registry=registry)
    for one in (OLD, NEW):
        finalizers.on.event(*one)(nothing)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    assert type(settings.persistence.finalizer) is str


@pytest.mark.parametrize("storages", [True, False])
def test_handlers_that_are_declared_late(
    registry: kopf.OperatorRegistry, caplog: pytest.LogCaptureFixture, *, storages: bool
) -> None:
    """A handler that is declared when the identity is in force counts, and nobody is warned."""
    finalizers = Finalizers(IDENTITY, registry=registry, storages=storages)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    with caplog.at_level(logging.WARNING):
        finalizers.on.delete(*NEW)(nothing)
        finalizers.on.event(*OLD)(nothing)
        finalizer = settings.persistence.finalizer
        assert isinstance(finalizer, RecognisedFinalizer)
        finalizers.on.event("example.com", "v2", "things")(nothing)
        assert settings.persistence.finalizer is finalizer
        body = kopf.Body({"metadata": {"name": "a"}})
        settings.persistence.diffbase_storage.fetch(body=body)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


def test_handlers_for_which_kopf_needs_its_finalizer(registry: kopf.OperatorRegistry) -> None:
    """Mandatory cleanups, daemons and timers need it; what handles changes needs a last state."""
    new, old = resource("v1"), resource("v1beta1")
    kopf.on.delete(*NEW, registry=registry, id="cleanup")(nothing)
    kopf.on.delete(*NEW, registry=registry, id="optional", optional=True)(nothing)
    kopf.daemon(*NEW, registry=registry, id="daemon")(nothing)
    kopf.timer(*OLD, registry=registry, id="timer", interval=1)(nothing)
    kopf.on.create(*OLD, registry=registry, id="create")(nothing)
    kopf.on.event(*OLD, registry=registry, id="event")(nothing)
    found = {one: {h.id for h in guarding_handlers_of(registry, one)} for one in (new, old)}
    assert found == {new: {"cleanup", "daemon"}, old: {"timer"}}
    assert {h.id for h in guarding_handlers_of(registry)} == {"cleanup", "daemon", "timer"}
    assert (handles_changes(registry, new), handles_changes(registry, old)) == (False, True)


async def _watched() -> bool:
    return is_watched(resource("v1"))


def test_streams_that_cannot_be_known() -> None:
    """Where no task is named as Kopf names its streams, each is taken to be there."""
    assert asyncio.run(_watched())


def test_a_storage_that_is_set_late(registry: kopf.OperatorRegistry) -> None:
    """An operator with storages of its own may set them when the identity is in force."""
    finalizers = Finalizers(IDENTITY, registry=registry, storages=False)
    finalizers.on.delete(*OLD)(nothing)
    finalizers.on.create(*NEW, id="create")(nothing)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    own = kopf.AnnotationsDiffBaseStorage(prefix="own.example.com")
    settings.persistence.diffbase_storage = own
    body: dict[str, Any] = {
        "metadata": {"name": "one", "uid": "1-4", "finalizers": [NAME]}, "spec": {},
    }  # fmt: skip
    cycle(registry, settings, body, resource=resource("v1"))
    # By now both streams are known, and the one that handles no changes keeps no last state.
    patch = cycle(registry, settings, body, resource=resource("v1beta1")).patch
    assert "own.example.com/last-handled-configuration" not in str(patch)
    patch = cycle(registry, settings, body, resource=resource("v1")).patch
    assert "own.example.com/last-handled-configuration" in str(patch)


def test_handlers_of_changes_in_two_streams(
    registry: kopf.OperatorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Only one stream may be told of a change, so there is one warning that names both."""
    finalizers = Finalizers(IDENTITY, registry=registry)
    for one in (OLD, NEW):
        finalizers.on.delete(*one)(nothing)
        finalizers.on.create(*one)(nothing)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    body: dict[str, Any] = {"metadata": {"name": "one", "uid": "1-3"}, "spec": {}}
    for version in ("v1", "v1beta1", "v1", "v1beta1"):
        cycle(registry, settings, body, resource=resource(version))
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "on things.v1.example.com and on things.v1beta1.example.com" in warnings[0]


def test_a_creation_in_a_stream_that_is_late(registry: kopf.OperatorRegistry) -> None:
    """It is not called any more when the object is being deleted as another stream has seen it.

    That one calls cleanups by now, and the creation would make anew what they have cleaned up.
    """
    calls = list[str]()
    finalizers = Finalizers(IDENTITY, registry=registry)
    finalizers.on.delete(*OLD, id="drop")(lambda **_: calls.append("drop"))
    finalizers.on.create(*NEW, id="make")(lambda **_: calls.append("make"))
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    alive: dict[str, Any] = {
        "metadata": {"name": "one", "uid": "1-5", "finalizers": [NAME]}, "spec": {},
    }  # fmt: skip
    deleted = {**alive, "metadata": {**alive["metadata"], "deletionTimestamp": "2030-01-01"}}
    cycle(registry, settings, alive, resource=resource("v1beta1"))
    cycle(registry, settings, deleted, resource=resource("v1beta1"))
    cycle(registry, settings, alive, resource=resource("v1"))
    assert calls == ["drop"]


@pytest.mark.parametrize("change", ["addition", "removal"])
def test_what_one_stream_could_not_send_is_not_sent_by_another(
    registry: kopf.OperatorRegistry, change: str
) -> None:
    """Kopf keeps it for both: where the finalizer is hidden, it would be put on a second time."""
    finalizers = Finalizers(IDENTITY, registry=registry)
    finalizers.on.delete(*OLD)(nothing)
    finalizers.on.update(*NEW)(nothing)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    body: dict[str, Any] = {
        "metadata": {"name": "one", "uid": "1-2", "finalizers": ["other.org/f"]}, "spec": {},
    }  # fmt: skip
    cycle(registry, settings, body, resource=resource("v1"))
    first = cycle(registry, settings, body, resource=resource("v1beta1"))
    assert first.finalizers() == ["other.org/f", NAME]
    fns = first.patch.fns
    if change == "removal":
        own = settings.persistence.finalizer
        fns = [functools.partial(allow_deletion, finalizer=own)]
    left = kopf.Patch(fns=fns)
    # The request was done, and its answer lost.
    again = cycle(registry, settings, first.after(), leftover=left, resource=resource("v1"))
    assert again.finalizers() == ["other.org/f", NAME]
    assert "touch-dummy" in str(again.after()["metadata"]["annotations"])


@pytest.mark.parametrize("rollout", ["recognise", "switch"])
def test_a_rename_beside_handlers_in_two_notations(
    registry: kopf.OperatorRegistry, rollout: Any
) -> None:
    """Handlers that name one kind in two ways see of an object what others see in a rename."""
    finalizers = Finalizers(
        IDENTITY,
        registry=registry,
        former=["twingate.com/finalizer"],
        former_storage_prefix="twingate.com",
        rollout=rollout,
    )
    called = list[str]()
    finalizers.on.delete("things", id="cleanup")(lambda **_: called.append("delete"))
    finalizers.on.update(*NEW, id="update")(lambda **_: called.append("update"))
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    body: dict[str, Any] = {
        "metadata": {"name": "one", "uid": "1-2", "finalizers": ["twingate.com/finalizer"]},
        "spec": {},
    }
    former = kopf.AnnotationsDiffBaseStorage(prefix="twingate.com")
    seen, patch = kopf.Body(cast("kopf.RawBody", body)), kopf.Patch()
    former.store(body=seen, patch=patch, essence=former.build(body=seen))
    body = cycle(registry, settings, after(body, patch)).after()
    has_moved = rollout == "switch"
    assert ("twingate.com/kopf-managed" in body["metadata"]["annotations"]) is not has_moved
    # Once the former prefix is left, what users keep there counts as any other annotation.
    body["metadata"]["annotations"]["twingate.com/team"] = "storage"
    body = cycle(registry, settings, body).after()
    assert called == (["update"] if has_moved else [])
    body["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert cycle(registry, settings, body).finalizers() == []
    assert called[-1] == "delete"
