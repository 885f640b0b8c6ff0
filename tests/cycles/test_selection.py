"""Objects that leave what an operator watches by server-side selectors, and are alive."""

import logging
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import configure
from kopf_finalizers._selection import Selection

from ..support.kopf_cycles import cycle, start
from ..support.servers import Body

MAIN = "mycompany.com/db"

pytestmark = pytest.mark.skipif(
    not hasattr(kopf.OperatorSettings().watching, "label_selectors"),
    reason="this Kopf has no server-side selectors",
)


def fn(**_: Any) -> None: ...


def left(body: Body, *, selected: bool = True, **options: Any) -> kopf.OperatorRegistry:
    """An operator whose selection the object leaves."""
    registry = kopf.OperatorRegistry()
    finalizers = configure("mycompany.com", "db", registry=registry, **options)
    finalizers.on.delete("things", finalizer="backups")(fn)
    settings = start(registry)
    if selected:  # as in a startup handler of the operator's own, which comes later
        settings.watching.field_selectors["things"] = "metadata.namespace!=x"
    alive = {"metadata": {"name": "t"}}
    cycle(registry, settings, alive)
    cycle(registry, settings, body, type="DELETED")
    return registry


@pytest.mark.parametrize(
    ("finalizers", "said"),
    [
        ([MAIN], f"with {MAIN} on it"),
        ([f"{MAIN}.backups", "other.org/f", MAIN], f"with {MAIN}.backups, {MAIN} on it"),
        (["mycompany.com/old"], "with mycompany.com/old on it"),
    ],
)
def test_own_finalizers_that_stay_are_named(
    caplog: pytest.LogCaptureFixture, finalizers: list[str], said: str
) -> None:
    """The warning has what is this operator's, former names too, and a command for each."""
    left({"metadata": {"name": "t", "finalizers": finalizers}}, former=["mycompany.com/old"])
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING][1:]
    assert said in warning
    assert warning.count("kubectl patch things.v1.example.com t --type") == said.count("/")


@pytest.mark.parametrize(
    "metadata",
    [
        {"finalizers": []},
        {"finalizers": ["other.org/f"]},
        {"finalizers": [MAIN], "deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
)
def test_what_is_gone_or_nothing_of_ours_is_no_matter(
    caplog: pytest.LogCaptureFixture, metadata: Body
) -> None:
    """An object that was deleted, or carries only others' finalizers, is not warned of."""
    left({"metadata": {"name": "t", **metadata}})
    assert "has left" not in caplog.text


def test_without_selectors_nobody_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """An operator without server-side selectors pays nothing for it."""
    registry = left({"metadata": {"name": "t", "finalizers": [MAIN]}}, selected=False)
    assert "has left" not in caplog.text
    handlers = registry._watching.get_all_handlers()
    assert not [one for one in handlers if "selection" in one.id]


def test_command_of_a_core_resource_is_as_kubectl_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Resources without a group are named by their plural alone."""
    finalizers = configure("mycompany.com", "db", registry=kopf.OperatorRegistry())
    resource = kopf.Resource(group="", version="v1", plural="configmaps")
    metadata = {"name": "t", "namespace": "shop", "finalizers": [MAIN]}
    assert not Selection(finalizers.describe)._look(
        type="DELETED",
        body=kopf.Body(cast("Any", {"metadata": metadata})),
        resource=resource,
        logger=cast("Any", logging.getLogger("object")),
    )
    assert "kubectl patch configmaps t --namespace shop --type" in caplog.text


def test_selection_is_looked_at_once() -> None:
    """Settings that are applied again do not have every object asked about twice."""
    registry = kopf.OperatorRegistry()
    finalizers = configure("mycompany.com", "db", registry=registry)
    kopf.on.create("things", registry=registry)(cast("Any", fn))
    settings = kopf.OperatorSettings()
    settings.watching.label_selectors["things"] = "a=b"
    selection = Selection(finalizers.describe)
    selection.begin(settings, registry)
    selection.begin(settings, registry)
    assert len(registry._watching.get_all_handlers()) == 1
