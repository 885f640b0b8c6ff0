"""Which objects a dedicated finalizer is for: filters, answered before Kopf knows the change."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import kopf
import pytest

from ..support.dedicated import BACKUPS, BUCKETS, OWN, Operator, alive, deleted, deleting, messages
from ..support.servers import Body

# Kopf's own, whose types ask for more than a lambda has.
combined: Any = kopf


def seen_by(when: Callable[..., bool], body: Body | None = None) -> list[str]:
    operator = Operator()
    operator.on.create("things", finalizer="backups", when=when)(operator.handler("created"))
    return operator.cycle(body or alive()).finalizers()


def asks_by_name_old(old: Any, **_: Any) -> bool:
    return old is not None


def asks_by_name_new(new: Any, **_: Any) -> bool:
    return bool(new)


def asks_by_name_diff(diff: Any, **_: Any) -> bool:
    return len(diff) > 100


def asks_by_name_reason(reason: Any, **_: Any) -> bool:
    return bool(reason == "update")


ASKING: dict[str, Any] = {
    "old by name": asks_by_name_old,
    "new by name": asks_by_name_new,
    "diff by name": asks_by_name_diff,
    "reason by name": asks_by_name_reason,
    "type by name": lambda old, **_: isinstance(old, dict),
    "keyword-only": lambda *, reason, **_: bool(reason == "update"),
    "with a default": lambda old=None, **_: old is not None,
    "truth": lambda **kwargs: not kwargs["diff"],
    "length": lambda **kwargs: len(kwargs["diff"]) > 100,
    "item": lambda **kwargs: kwargs["new"]["spec"]["size"] == 7,
    "attribute": lambda **kwargs: kwargs["reason"].value == "update",
    "method": lambda **kwargs: kwargs["new"].get("spec") == 7,
    "equality": lambda **kwargs: kwargs["reason"] == "update",
    "inequality": lambda **kwargs: kwargs["reason"] != "update" and False,
    "equality reversed": lambda **kwargs: bool("update" == kwargs["reason"]),  # noqa: SIM300
    "in a tuple": lambda **kwargs: kwargs["reason"] in ("update", "resume"),
    "in a set": lambda **kwargs: kwargs["reason"] in {"update", "resume"},
    "as a key": lambda **kwargs: bool({"update": True}.get(kwargs["reason"])),
    "as text": lambda **kwargs: str(kwargs["reason"]) == "update",
    "in a text": lambda **kwargs: f"{kwargs['reason']}" == "update",
    "membership": lambda **kwargs: "spec" in kwargs["new"],
    "iteration": lambda **kwargs: any(True for _ in kwargs["diff"]),
    "is None": lambda **kwargs: kwargs["old"] is None,
    "is not None": lambda **kwargs: kwargs["old"] is not None,
    "is None, and more": lambda **kwargs: kwargs["old"] is None or kwargs["old"]["spec"] == 7,
    "is None, and fails": lambda **kwargs: kwargs["memo"] is None and 1 / 0,
    "type by keyword": lambda **kwargs: isinstance(kwargs["old"], dict),
    "order": lambda **kwargs: kwargs["reason"] > "v",
    "in all_": combined.all_([lambda **_: True, asks_by_name_diff]),
    "in any_": combined.any_([lambda **_: False, asks_by_name_reason]),
    "in not_": combined.not_(lambda **kwargs: bool(kwargs["new"])),
    "in none_": combined.none_([lambda **_: False, lambda **kwargs: bool(kwargs["new"])]),
    "in a partial": functools.partial(asks_by_name_old),
    "in a partial with keywords": functools.partial(lambda x, **kw: kw["old"] == x, x=7),
}


@pytest.mark.parametrize("when", ASKING.values(), ids=ASKING)
def test_filter_that_asks_for_the_change_is_taken_to_hold(when: Callable[..., bool]) -> None:
    """What an event does not tell cannot be decided: an object is guarded rather than not."""
    assert seen_by(when) == [BACKUPS]


KNOWN: dict[str, tuple[Any, bool]] = {
    "true": (lambda **_: True, True),
    "false": (lambda **_: False, False),
    "spec": (lambda spec, **_: spec["size"] == 1, True),
    "no spec": (lambda spec, **_: spec["size"] == 2, False),
    "by keywords": (lambda **kwargs: kwargs["name"] == "t", True),
    "decided before it asks": (lambda **kwargs: kwargs["name"] == "x" and kwargs["old"], False),
    "in all_": (combined.all_([lambda **_: True, lambda name, **_: name == "x"]), False),
    "in all_ before it asks": (combined.all_([lambda **_: False, asks_by_name_old]), False),
    "in any_ before it asks": (combined.any_([lambda **_: True, asks_by_name_old]), True),
    "in not_": (combined.not_(lambda **_: True), False),
    "without a signature": (dict, True),
}


@pytest.mark.parametrize(("when", "holds"), KNOWN.values(), ids=KNOWN)
def test_filter_that_asks_for_the_object_is_answered(
    when: Callable[..., bool], holds: bool
) -> None:
    """A filter on what an event tells is asked, and its answer counts."""
    assert seen_by(when) == ([BACKUPS] if holds else [])
    assert seen_by(when, alive(BACKUPS)) == ([BACKUPS] if holds else [])


def test_filter_is_asked_with_what_kopf_tells_of_an_event() -> None:
    """A filter gets Kopf's own keyword arguments, unchanged."""
    seen = dict[str, Any]()

    def when(**kwargs: Any) -> bool:
        seen.update(kwargs)
        return True

    seen_by(when)
    assert {"old", "new", "diff", "reason", "body", "patch", "memo", "resource", "uid"} <= set(seen)
    assert seen["name"] == "t"
    assert isinstance(seen["body"], kopf.Body)


@dataclasses.dataclass
class Bigger:
    """A filter that is an object, and not hashable."""

    size: int

    def __call__(self, spec: kopf.Spec, **_: Any) -> bool:
        return bool(spec["size"] > self.size)


def test_filter_may_be_any_callable() -> None:
    """What Kopf takes for a filter is a filter for the finalizer too."""
    assert seen_by(Bigger(0)) == [BACKUPS]
    assert seen_by(Bigger(1)) == []
    assert seen_by(functools.partial(lambda spec, size, **_: spec["size"] == size, size=2)) == []


def test_kopf_never_calls_what_only_notes(caplog: pytest.LogCaptureFixture) -> None:
    """The library's own registrations are filters alone: no handler of its own ever runs."""
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.event("things", finalizer="buckets", id="seen")(operator.handler("event"))
    operator.cycle(alive())
    operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    called = [m for m in messages(caplog, logging.INFO) if m.startswith("Handler ")]
    assert {m.split()[1] for m in called} == {"'seen'", "'backups'"}


@pytest.mark.parametrize("error", [KeyError("size"), TypeError("no"), ValueError("no")])
def test_filter_that_fails_is_not_swallowed(error: Exception) -> None:
    """An error in a user's filter is the user's to see, as it is in Kopf."""

    def when(**_: Any) -> bool:
        raise error

    with pytest.raises(type(error)) as raised:
        seen_by(when)
    assert raised.value is error


def test_filters_without_a_callback_are_kopfs_own() -> None:
    """Labels, annotations, fields and values are compared by Kopf, for the finalizer too."""
    filters = {
        "labels": {"a": kopf.PRESENT},
        "annotations": {"b": "c"},
        "field": "spec.size",
        "value": lambda value, **_: value == 1,
    }
    operator = Operator()
    operator.on.create("things", finalizer="backups", **filters)(operator.handler("created"))
    matching = alive(labels={"a": "x"}, annotations={"b": "c"})
    assert operator.cycle(matching).finalizers() == [BACKUPS]
    for other in (
        alive(annotations={"b": "c"}),
        alive(labels={"a": "x"}, annotations={"b": "d"}),
        {**matching, "spec": {"size": 2}},
        {**matching, "spec": {}},
    ):
        assert operator.cycle(other).finalizers() == []


# A field, and what it was when the object was last handled


@pytest.mark.parametrize(
    ("kind", "wanted", "size", "changed"),
    [
        ("create", kopf.ABSENT, 1, None),
        ("create", lambda size, **_: size != 1, 1, None),
        ("update", 1, 1, 2),
        ("update", kopf.PRESENT, 1, None),
        ("update", lambda size, **_: size == 1, 1, 2),
        ("update", 2, 1, 2),
    ],
)
def test_finalizer_is_there_for_what_a_field_was_when_it_was_last_handled(
    kind: str, wanted: Any, size: int, changed: int | None
) -> None:
    """Kopf compares both, what a field is and what it was: a handler never runs unguarded."""
    operator = Operator()
    seen = list[list[str]]()

    def handler(body: kopf.Body, retry: int, **_: Any) -> None:
        seen.append(list(body["metadata"]["finalizers"]))
        if retry == 0:
            raise kopf.TemporaryError("busy", delay=0)

    operator.on.delete("things")(operator.handler("delete"))
    on: Any = getattr(operator.on, kind)
    on("things", field="spec.size", value=wanted, finalizer="backups")(handler)
    body = {**alive(), "spec": {"size": size}}
    if kind == "update":
        body = {**operator.settle(body), "spec": {"size": changed} if changed else {}}
    for _ in range(4):
        body = operator.cycle(body).after()
    assert len(seen) == 2
    assert all(BACKUPS in finalizers for finalizers in seen)


def test_field_that_cannot_be_there_is_absent() -> None:
    """An object without a spec has no field in it."""
    operator = Operator()
    on: Any = operator.on.delete
    on("things", field=("spec", "size"), finalizer="backups")(operator.handler("one"))
    on("things", field=["spec", "size"], value=kopf.ABSENT, finalizer="buckets")(
        operator.handler("two")
    )
    body = alive(BACKUPS)
    del body["spec"]
    assert operator.cycle(body).finalizers() == [BUCKETS, OWN]


def test_cleanup_of_a_field_that_has_changed_keeps_its_finalizer() -> None:
    """Kopf calls a cleanup for what a field was when the object was last handled, too."""
    operator = Operator()
    cleanup = operator.handler("backups", kopf.TemporaryError("busy", delay=0), None)
    operator.on.delete("things", field="spec.size", value=1, finalizer="backups")(cleanup)
    settled = operator.settle(alive())
    assert settled["metadata"]["finalizers"] == [BACKUPS, OWN]
    body = deleted({**settled, "spec": {"size": 2}})
    first = operator.cycle(body)
    assert operator.calls == ["backups"]
    assert first.finalizers() == [BACKUPS, OWN]
    assert "finalizers" not in operator.settle(first.after())["metadata"]


@pytest.mark.parametrize("asked", ["old", "new", "diff", "reason"])
@pytest.mark.parametrize("filtered", ["labels", "annotations", "value"])
def test_filter_of_one_field_may_ask_for_the_change(asked: str, filtered: str) -> None:
    """A callback for a label, an annotation or a value may ask for what an event does not tell."""

    def callback(value: Any, **kwargs: Any) -> bool:
        return value is not None and bool(kwargs[asked])

    filters: dict[str, dict[str, Any]] = {
        "labels": {"labels": {"a": callback}},
        "annotations": {"annotations": {"a": callback}},
        "value": {"field": "spec.size", "value": callback},
    }
    operator = Operator()
    operator.on.create("things", finalizer="backups", **filters[filtered])(operator.handler("h"))
    wanted = alive(labels={"a": "b"}, annotations={"a": "b"})
    assert operator.cycle(wanted).finalizers() == [BACKUPS]
    if filtered != "value":
        assert operator.cycle(alive()).finalizers() == []
