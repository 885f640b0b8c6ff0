"""Handlers of Kopf's own decorators in an operator that only watches."""

from typing import Any

import kopf
import pytest

from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity

THINGS = ("example.com", "v1", "things")


async def nothing(**_: Any) -> None: ...


def test_handlers_that_need_a_finalizer_are_named() -> None:
    """All of them are named at once, each by its decorator and its name."""
    registry = kopf.OperatorRegistry()
    kopf.on.delete(*THINGS, registry=registry, id="drop")(nothing)
    kopf.daemon(*THINGS, registry=registry, id="watch")(nothing)
    kopf.timer(*THINGS, registry=registry, id="tick", interval=1)(nothing)
    identity = OperatorIdentity(domain="mycompany.com", operator="viewer")
    finalizers = Finalizers(identity, watches_only=True, registry=registry)
    named = "on.delete drop, daemon watch, timer tick"
    with pytest.raises(ConfigurationError, match=f"puts its finalizer on objects for {named}"):
        finalizers.apply(kopf.OperatorSettings())


def test_handlers_that_need_none_are_taken() -> None:
    """An optional cleanup and handlers of changes and events are what watching is."""
    registry = kopf.OperatorRegistry()
    kopf.on.delete(*THINGS, registry=registry, optional=True)(nothing)
    kopf.on.update(*THINGS, registry=registry)(nothing)
    kopf.on.event(*THINGS, registry=registry)(nothing)
    identity = OperatorIdentity(domain="mycompany.com", operator="viewer")
    finalizers = Finalizers(identity, watches_only=True, registry=registry)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    assert settings.persistence.finalizer == "mycompany.com/viewer"
