"""The decorators: Kopf's own registration, the function as it was, and what is refused."""

import dataclasses
import enum
import functools
import re
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity
from kopf_finalizers import _on as decorators
from kopf_finalizers._unset import LEFT_OUT

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")

KINDS = ["create", "resume", "update", "delete", "field", "event", "daemon", "timer"]

# What makes a registration of each kind that Kopf takes.
NEEDED: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS} | {"field": {"field": "spec.a"}}


def finalizers_in(registry: kopf.OperatorRegistry, **options: Any) -> Finalizers:
    return Finalizers(IDENTITY, registry=registry, **options)


def decorator_of(finalizers: Finalizers, kind: str) -> Callable[..., Any]:
    return cast("Callable[..., Any]", getattr(finalizers.on, kind))


def handlers_of(registry: kopf.OperatorRegistry) -> list[Any]:
    """All handlers of a registry but those that the library needs for itself."""
    parts = (registry._watching, registry._spawning, registry._changing)
    handlers = [handler for part in parts for handler in part.get_all_handlers()]
    return [handler for handler in handlers if not handler.id.startswith("kopf-finalizers/")]


def library_handlers_of(registry: kopf.OperatorRegistry) -> list[Any]:
    handlers = registry._watching.get_all_handlers()
    return [handler for handler in handlers if handler.id.startswith("kopf-finalizers/")]


def attributes(handler: Any) -> dict[str, Any]:
    return {field.name: getattr(handler, field.name) for field in dataclasses.fields(handler)}


def fn(**_: Any) -> None: ...


async def coroutine(**_: Any) -> None: ...


class Operator:
    """Handlers as methods."""

    def method(self, **_: Any) -> None: ...

    @staticmethod
    def static(**_: Any) -> None: ...


def always(**_: Any) -> bool:
    return True


# The function, and its registration with Kopf


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("finalizer", [LEFT_OUT, "backups", "mycompany.com/my-finalizer"])
@pytest.mark.parametrize(
    "handler",
    [fn, coroutine, functools.partial(fn, a=1), Operator().method, Operator.static],
    ids=["sync", "async", "partial", "method", "staticmethod"],
)
def test_decorator_returns_the_same_function(
    kind: str, finalizer: Any, handler: Callable[..., Any]
) -> None:
    """Whatever the function is, it comes back as it was and is what Kopf will call."""
    registry = kopf.OperatorRegistry()
    decorate = decorator_of(finalizers_in(registry), kind)
    assert decorate("things", finalizer=finalizer, **NEEDED[kind])(handler) is handler
    (registered,) = handlers_of(registry)
    assert registered.fn is handler


FILTERS: dict[str, Any] = {
    "labels": {"a": "b", "c": kopf.PRESENT},
    "annotations": {"a": kopf.ABSENT},
    "when": always,
    "field": "spec.size",
    "value": 3,
}
RETRIED: dict[str, Any] = {
    "errors": kopf.ErrorsMode.PERMANENT,
    "timeout": 3.5,
    "retries": 7,
    "backoff": 2.5,
}
CHANGED: dict[str, Any] = {**FILTERS, "value": None, "old": 1, "new": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "create": {**FILTERS, **RETRIED},
    "resume": {**FILTERS, **RETRIED, "deleted": True},
    "update": {**CHANGED, **RETRIED},
    "delete": {**FILTERS, **RETRIED},
    "field": {**CHANGED, **RETRIED},
    "event": FILTERS,
    "daemon": {
        **FILTERS,
        **RETRIED,
        "initial_delay": 1,
        "cancellation_backoff": 2,
        "cancellation_timeout": 3,
        "cancellation_polling": 4,
    },
    "timer": {**FILTERS, **RETRIED, "interval": 1, "initial_delay": 2, "sharp": True, "idle": 3},
}
SELECTORS: list[tuple[tuple[Any, ...], dict[str, str]]] = [
    (("things",), {}),
    (("example.com", "v1", "things"), {}),
    (("example.com/v1", "things"), {}),
    ((kopf.EVERYTHING,), {}),
    ((), {"group": "example.com", "version": "v1", "plural": "things"}),
    ((), {"singular": "thing"}),
    ((), {"category": "all", "version": "v1"}),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("finalizer", [LEFT_OUT, "backups"])
@pytest.mark.parametrize(("args", "selector"), SELECTORS)
@pytest.mark.parametrize("named", [{}, {"id": "x", "param": {"a": 1}}])
def test_handler_is_registered_as_kopf_registers_it(
    kind: str,
    finalizer: Any,
    args: tuple[Any, ...],
    selector: dict[str, str],
    named: dict[str, Any],
) -> None:
    """Every attribute of the handler is what it would be without the library."""
    plain, ours = kopf.OperatorRegistry(), kopf.OperatorRegistry()
    options = {**OPTIONS[kind], **selector, **named}
    getattr(kopf.on, kind)(*args, registry=plain, **options)(fn)
    decorator_of(finalizers_in(ours), kind)(*args, finalizer=finalizer, **options)(fn)
    (theirs,), (registered,) = handlers_of(plain), handlers_of(ours)
    assert type(registered) is type(theirs)
    assert attributes(registered) == attributes(theirs)
    assert bool(library_handlers_of(ours)) == (finalizer != LEFT_OUT)


@pytest.mark.parametrize("kind", KINDS)
def test_kopf_is_asked_once_for_each_resource_as_it_was_written(kind: str) -> None:
    """However many handlers and filters there are, Kopf asks one filter, without any others."""
    registry = kopf.OperatorRegistry()
    decorate = decorator_of(finalizers_in(registry), kind)
    for purpose in ("backups", "buckets"):
        options = {**OPTIONS[kind], "id": purpose}
        decorate("example.com", "v1", "things", finalizer=purpose, **options)(fn)
    handler, _ = handlers_of(registry)
    (watching,) = library_handlers_of(registry)
    assert watching.selector == handler.selector
    for name in ("labels", "annotations", "field", "value"):
        assert getattr(watching, name) is None


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"daemon", "timer"}))
def test_none_registers_the_handler_without_a_finalizer(kind: str) -> None:
    """With `finalizer=None` a cleanup is optional to Kopf, and the others are as they were."""
    plain, ours = kopf.OperatorRegistry(), kopf.OperatorRegistry()
    options = {"optional": True} if kind == "delete" else {}
    getattr(kopf.on, kind)("things", registry=plain, **NEEDED[kind], **options)(fn)
    decorator_of(finalizers_in(ours), kind)("things", finalizer=None, **NEEDED[kind])(fn)
    (theirs,), (registered,) = handlers_of(plain), handlers_of(ours)
    assert attributes(registered) == attributes(theirs)
    assert not registered.id.startswith("kopf-finalizers/")
    assert library_handlers_of(ours) == []


@pytest.mark.parametrize(
    ("options", "required"),
    [
        ({}, True),
        ({"optional": False}, True),
        ({"optional": True}, False),
        ({"finalizer": None}, False),
        ({"finalizer": None, "optional": True}, False),
        ({"finalizer": None, "optional": None}, False),
        ({"finalizer": "backups"}, True),
        ({"finalizer": "backups", "optional": False}, True),
        ({"finalizer": "backups", "optional": None}, True),
    ],
)
def test_cleanup_blocks_the_deletion_unless_it_is_optional(
    options: dict[str, Any], required: bool
) -> None:
    """Kopf's own finalizer guards each cleanup, dedicated or not, but for the optional ones."""
    registry = kopf.OperatorRegistry()
    finalizers_in(registry).on.delete("things", **options)(fn)
    (handler,) = handlers_of(registry)
    assert handler.requires_finalizer is required


class Purposes(enum.StrEnum):
    BACKUPS = "backups"
    FULL = "mycompany.com/my-finalizer"


@pytest.mark.parametrize(
    ("given", "finalizer"),
    [
        ("backups", "mycompany.com/db-operator.backups"),
        ("mycompany.com/my-finalizer", "mycompany.com/my-finalizer"),
        ("team.mycompany.com/My.Finalizer", "team.mycompany.com/My.Finalizer"),
        (Purposes.BACKUPS, "mycompany.com/db-operator.backups"),
        (Purposes.FULL, "mycompany.com/my-finalizer"),
    ],
)
def test_finalizer_is_a_purpose_or_a_full_name(given: str, finalizer: str) -> None:
    """A bare purpose is derived, a full name is taken as it is."""
    finalizers = finalizers_in(kopf.OperatorRegistry())
    finalizers.on.create("things", finalizer=given)(fn)
    assert [entry.name for entry in finalizers.inventory()] == [finalizer]


def test_decorators_can_be_stacked() -> None:
    """One function may be several handlers of several finalizers, and of Kopf's own decorators."""
    registry = kopf.OperatorRegistry()
    on = finalizers_in(registry).on

    @on.create("things", finalizer="backups")
    @on.update("things", finalizer="backups", field="spec.a")
    @on.delete("things", finalizer="backups")
    @on.delete("others", finalizer="backups")
    @on.delete("things", finalizer="buckets")
    def handler(**_: Any) -> str:
        return "called"

    kopf.on.resume("things", registry=registry)(handler)
    assert handler() == "called"
    assert [registered.fn for registered in handlers_of(registry)] == [handler] * 6
    # Each resource is asked about once, whatever the number of its handlers.
    assert len(library_handlers_of(registry)) == 2


@pytest.mark.parametrize("finalizer", [LEFT_OUT, "backups"])
def test_registry_of_the_decorator_comes_first(finalizer: Any) -> None:
    """A decorator registers where it is told, else where its operator does, else by default."""
    given, own, default = (kopf.OperatorRegistry() for _ in range(3))
    before = kopf.get_default_registry()
    kopf.set_default_registry(default)
    try:
        Finalizers(IDENTITY).on.create("a", finalizer=finalizer)(fn)
        Finalizers(IDENTITY).on.create("b", finalizer=finalizer, registry=None)(fn)
        Finalizers(IDENTITY, registry=own).on.create("c", finalizer=finalizer)(fn)
        Finalizers(IDENTITY, registry=own).on.create("d", finalizer=finalizer, registry=given)(fn)
    finally:
        kopf.set_default_registry(before)
    for registry, names in ((default, ["a", "b"]), (own, ["c"]), (given, ["d"])):
        assert [handler.selector.any_name for handler in handlers_of(registry)] == names
        assert len(library_handlers_of(registry)) == (len(names) if finalizer == "backups" else 0)


# Refusals


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("finalizer", [True, False, 7, b"backups", ["backups"], fn])
def test_finalizer_of_another_type_is_refused(kind: str, finalizer: Any) -> None:
    """What is neither a name nor None is refused when the module is imported."""
    registry = kopf.OperatorRegistry()
    with pytest.raises(ConfigurationError, match=rf"on\.{kind}\(finalizer=.*or None"):
        decorator_of(finalizers_in(registry), kind)("things", finalizer=finalizer, **NEEDED[kind])
    assert handlers_of(registry) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("finalizer", "said"),
    [
        ("", 'The purpose "" is empty'),
        ("Backups", 'Use "backups"'),
        ("other.org/f", "not in the domain of this organisation"),
        ("kopf.zalando.org/KopfFinalizerMarker", "not in the domain of this organisation"),
        ("mycompany.com/db-operator", "leave finalizer= out"),
        ("mycompany.com/not a name", 'has a name, "not a name"'),
    ],
)
def test_finalizer_that_this_operator_may_not_use_is_refused(
    kind: str, finalizer: str, said: str
) -> None:
    """A name that breaks a rule, or is somebody else's, is refused when the module is imported."""
    registry = kopf.OperatorRegistry()
    with pytest.raises(ConfigurationError, match=said):
        decorator_of(finalizers_in(registry), kind)("things", finalizer=finalizer, **NEEDED[kind])
    assert handlers_of(registry) == []


@pytest.mark.parametrize("kind", ["daemon", "timer"])
def test_daemon_without_a_finalizer_is_refused(kind: str) -> None:
    """Kopf stops daemons and timers through its finalizer, so they cannot go without."""
    with pytest.raises(ConfigurationError, match=rf"Kopf stops a {kind} through .* Leave finaliz"):
        decorator_of(finalizers_in(kopf.OperatorRegistry()), kind)("things", finalizer=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"finalizer": None, "optional": False}, "optional=False asks for the contrary"),
        ({"finalizer": "backups", "optional": True}, "optional=True asks for the contrary"),
    ],
)
def test_optional_that_contradicts_the_finalizer_is_refused(
    options: dict[str, Any], said: str
) -> None:
    """A cleanup cannot be waited for and be optional."""
    with pytest.raises(ConfigurationError, match=said):
        finalizers_in(kopf.OperatorRegistry()).on.delete("things", **options)


def test_kopfs_own_refusals_stay_kopfs() -> None:
    """Arguments that Kopf refuses are refused by Kopf, in its words, and nothing is declared."""
    registry = kopf.OperatorRegistry()
    on = finalizers_in(registry).on
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'field'"):
        on.field("things", finalizer="backups")(fn)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        decorator_of(finalizers_in(registry), "create")("things", colour="red")(fn)
    with pytest.raises(ValueError, match="`None` for label filters"):
        on.create("things", finalizer="backups", labels=cast("Any", {"a": None}))(fn)
    assert handlers_of(registry) == []
    assert library_handlers_of(registry) == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("delete", {}),
        ("delete", {"finalizer": "backups"}),
        ("delete", {"optional": False}),
        ("daemon", {}),
        ("timer", {}),
        ("daemon", {"finalizer": "backups"}),
        ("timer", {"finalizer": "backups"}),
        *((kind, {"finalizer": "backups"}) for kind in KINDS if kind not in ("daemon", "timer")),
    ],
)
def test_operator_that_only_watches_is_refused_a_handler_that_needs_a_finalizer(
    kind: str, options: dict[str, Any]
) -> None:
    """Who said that it only watches is told when it registers a handler that blocks a deletion."""
    registry = kopf.OperatorRegistry()
    decorate = decorator_of(finalizers_in(registry, watches_only=True), kind)
    advice = f"or leave the {kind} out" if kind in ("daemon", "timer") else "finalizer=None, so"
    with pytest.raises(ConfigurationError, match=advice) as refusal:
        decorate("things", **NEEDED[kind], **options)
    assert f"on.{kind} needs a finalizer here" in str(refusal.value)
    assert "Leave finalizer= out of configure()" in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("delete", {"optional": True}),
        *((kind, {}) for kind in KINDS if kind not in ("delete", "daemon", "timer")),
        *((kind, {"finalizer": None}) for kind in KINDS if kind not in ("daemon", "timer")),
    ],
)
def test_operator_that_only_watches_may_have_handlers_that_need_none(
    kind: str, options: dict[str, Any]
) -> None:
    """Handlers that never block a deletion are registered as ever."""
    registry = kopf.OperatorRegistry()
    decorate = decorator_of(finalizers_in(registry, watches_only=True), kind)
    decorate("things", **NEEDED[kind], **options)(fn)
    assert len(handlers_of(registry)) == 1
    assert library_handlers_of(registry) == []


# One cleanup for each finalizer and resource


def selector(*args: Any, **options: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, options


def only_things(resource: Any) -> bool:
    return bool(resource.plural == "things")


THINGS = [
    selector("example.com", "v1", "things"),
    selector("example.com/v1", "things"),
    selector("example.com", "things"),
    selector("example.com", None, "things"),
    selector("things"),
    selector("things.v1.example.com"),
    selector("things.example.com"),
    selector(plural="things"),
    selector("things", group="example.com", version="v1"),
    selector(group="example.com", plural="things"),
    selector(group="example.com", version="v1", plural="things"),
    selector("example.com", "v1", kopf.EVERYTHING),
    selector("example.com", kopf.EVERYTHING),
    selector(kopf.EVERYTHING),
]


def _second(
    one: tuple[tuple[Any, ...], dict[str, Any]], other: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    on = finalizers_in(kopf.OperatorRegistry()).on
    args, options = one
    cast("Any", on).delete(*args, **options, finalizer="backups", id="first")(fn)
    args, options = other
    cast("Any", on).delete(*args, **options, finalizer="backups", id="second")(coroutine)


@pytest.mark.parametrize("other", THINGS, ids=str)
@pytest.mark.parametrize("one", [THINGS[0], THINGS[5], THINGS[10], THINGS[13]], ids=str)
def test_second_cleanup_of_a_finalizer_is_refused_in_every_notation(
    one: tuple[tuple[Any, ...], dict[str, Any]], other: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    """Two cleanups of one resource cannot share a finalizer, however the resource is written."""
    for first, second in ((one, other), (other, one)):
        with pytest.raises(ConfigurationError, match="already waits for the cleanup first") as e:
            _second(first, second)
        assert "it cannot wait for second too" in str(e.value)
        assert "Give each cleanup a finalizer of its own" in str(e.value)
        assert '"mycompany.com/db-operator.backups"' in str(e.value)


CORE = [selector("", "v1", "pods"), selector("v1", "pods"), selector("pods.v1"), selector("pods")]
CORE += [selector("pods", group="")]
SPECIAL = [selector(only_things), selector(kopf.EVERYTHING), selector(only_things, group="x")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *((one, other) for one in CORE for other in CORE),
        *((SPECIAL[0], other) for other in SPECIAL),
        (selector(kind="Thing"), selector(kind="Thing", group="example.com")),
        (selector(singular="thing"), selector("thing")),
        (selector(shortcut="th"), selector("th")),
        (selector(category="all"), selector(category="all")),
        (selector("things.v1beta1.example.com"), selector("example.com", "v1beta1", "things")),
    ],
    # A function has its address in its name, and a test needs the same name each time.
    ids=lambda it: re.sub(r" at 0x\w+", "", str(it)),
)
def test_second_cleanup_of_core_and_other_resources_is_refused_too(
    one: tuple[tuple[Any, ...], dict[str, Any]], other: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    """The core group, kinds, short names, categories and functions are compared as well."""
    with pytest.raises(ConfigurationError, match="already waits for the cleanup"):
        _second(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (selector("things"), selector("others")),
        (selector("example.com", "v1", "things"), selector("example.com", "v2", "things")),
        (selector("example.com", "v1", "things"), selector("example.org", "v1", "things")),
        (selector("example.com/v1", "things"), selector("example.com/v2", "things")),
        (selector("things.v1.example.com"), selector("example.com", "v2", "things")),
        (selector("things.example.com"), selector("example.org", "things")),
        (selector("v1", "pods"), selector("example.com", "v1", "pods")),
        (selector("things", group="example.com"), selector("things", group="example.org")),
        (selector("example.com", kopf.EVERYTHING), selector("example.org", "v1", "things")),
        (selector("example.com", "v1", "things"), selector("example.com", "v1beta1", "things")),
    ],
    ids=str,
)
def test_same_finalizer_may_guard_other_resources(
    one: tuple[tuple[Any, ...], dict[str, Any]], other: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    """Cleanups of different resources may have the same finalizer: no object has both."""
    _second(one, other)
    _second(other, one)


def test_resource_is_named_in_the_refusal() -> None:
    """The refusal shows the resource as it was written."""
    with pytest.raises(ConfigurationError, match=r"of example\.com/things/version=v1 already"):
        _second(selector("things"), selector("example.com", "things", version="v1"))


def test_cleanups_with_a_finalizer_each_go_together() -> None:
    """Several cleanups of one resource are fine when each has its own finalizer, or Kopf's."""
    registry = kopf.OperatorRegistry()
    on = finalizers_in(registry).on
    on.delete("things", finalizer="backups", id="a")(fn)
    on.delete("things", finalizer="buckets", id="b")(fn)
    on.delete("things", id="c")(fn)
    on.delete("things", id="d")(coroutine)
    on.delete("things", finalizer=None, id="e")(fn)
    assert [handler.id for handler in handlers_of(registry)] == list("abcde")


def test_other_handlers_may_share_the_finalizer_of_a_cleanup() -> None:
    """Only cleanups are waited for: any other handler may use the same finalizer."""
    on = finalizers_in(kopf.OperatorRegistry()).on
    for kind in sorted(set(KINDS) - {"delete"}):
        getattr(on, kind)("things", finalizer="backups", **NEEDED[kind])(coroutine)
    on.delete("things", finalizer="backups")(fn)
    on.create("things", finalizer="backups")(coroutine)


def test_one_function_may_be_the_cleanup_of_two_notations() -> None:
    """The same function with other filters, or another notation, is one cleanup to Kopf too."""
    on = finalizers_in(kopf.OperatorRegistry()).on

    @on.delete("things", finalizer="backups", labels={"a": "b"})
    @on.delete("example.com", "v1", "things", finalizer="backups", labels={"a": "c"})
    def cleanup(**_: Any) -> None: ...


def test_cleanups_of_two_registries_do_not_meet() -> None:
    """Two registries are two operators: the same finalizer in both is no conflict."""
    finalizers = finalizers_in(kopf.OperatorRegistry())
    finalizers.on.delete("things", finalizer="backups")(fn)
    other = kopf.OperatorRegistry()
    finalizers.on.delete("things", finalizer="backups", registry=other)(coroutine)
    assert len(handlers_of(other)) == 1


def test_left_out_shows_itself_as_such() -> None:
    """The default of `finalizer=` reads well in help()."""
    assert repr(LEFT_OUT) == "left out"


@pytest.mark.parametrize("kind", KINDS)
def test_decorators_that_are_looked_for_in_the_module_are_told_of(kind: str) -> None:
    """`kopf_finalizers._on` is natural to write beside `kopf.on`, and belongs to no operator."""
    with pytest.raises(AttributeError, match=rf"Write finalizers = .*@finalizers\.on\.{kind}"):
        getattr(decorators, kind)
    with pytest.raises(AttributeError, match=r"has no attribute 'nosuch'$"):
        _ = cast("Any", decorators).nosuch
