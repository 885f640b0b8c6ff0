"""`configure` and `Finalizers`: who an operator is, said once."""

import contextvars
import functools
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import kopf
import pytest
from kopf._core.engines.posting import settings_var

import kopf_finalizers
from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity, configure
from kopf_finalizers._configure import configured_in

from ..support.kopf_cycles import cycle, start

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")


@pytest.fixture
def registry() -> kopf.OperatorRegistry:
    return kopf.OperatorRegistry()


@pytest.fixture
def default_registry() -> Iterator[kopf.OperatorRegistry]:
    """A default registry of the test's own."""
    before, own = kopf.get_default_registry(), kopf.OperatorRegistry()
    kopf.set_default_registry(own)
    yield own
    kopf.set_default_registry(before)


def fn(**_: Any) -> None: ...


# configure


@pytest.mark.parametrize(
    ("options", "finalizer"),
    [
        ({"domain": "mycompany.com", "operator": "db"}, "mycompany.com/db"),
        ({"finalizer": "mycompany.com/db"}, "mycompany.com/db"),
        ({"finalizer": "mycompany.com/operator-{name}", "name": "db"}, "mycompany.com/operator-db"),
        ({"domain": "mycompany.com", "operator": "db", "finalizer": None}, "mycompany.com/db"),
        ({"domain": "mycompany.com", "operator": "db", "storages": False}, "mycompany.com/db"),
    ],
)
def test_identity_is_applied_when_the_operator_starts(
    registry: kopf.OperatorRegistry, options: dict[str, Any], finalizer: str
) -> None:
    """Each form of the call says who the operator is, and Kopf's settings say so after startup."""
    finalizers = configure(**options, registry=registry)
    assert finalizers.name == finalizer
    settings = kopf.OperatorSettings()
    progress = settings.persistence.progress_storage
    diffbase = settings.persistence.diffbase_storage
    assert settings.persistence.finalizer == "kopf.zalando.org/KopfFinalizerMarker"
    start(registry, settings)
    assert settings.persistence.finalizer == finalizer
    kept = options.get("storages") is False
    assert (settings.persistence.progress_storage is progress) is kept
    assert (settings.persistence.diffbase_storage is diffbase) is kept


def test_domain_and_operator_may_be_positional(registry: kopf.OperatorRegistry) -> None:
    """The two words in their order are enough."""
    assert configure("mycompany.com", "db", registry=registry).name == "mycompany.com/db"


def test_an_operator_is_kept_no_longer_than_its_registry() -> None:
    """With its settings, and their threads: a process of tests has hundreds of operators."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    finalizers = configure("mycompany.com", "db-operator", registry=registry)
    finalizers.on.delete("mygroup", "v1", "myresources", finalizer="backups")(fn)
    finalizers.apply(settings)
    assert configured_in(registry) is finalizers
    left: list[weakref.ref[Any]] = [weakref.ref(registry), weakref.ref(settings)]
    del registry, settings, finalizers
    gc.collect()
    assert [one() for one in left] == [None, None]


def test_default_registry_is_configured_when_none_is_given(
    default_registry: kopf.OperatorRegistry,
) -> None:
    """Without `registry=`, it is Kopf's default one, as for Kopf's decorators."""
    finalizers = configure("mycompany.com", "db")
    finalizers.on.delete("things", finalizer="backups")(fn)
    assert start(default_registry).persistence.finalizer == "mycompany.com/db"
    assert len(default_registry._changing.get_all_handlers()) == 1
    assert configure("mycompany.com", "db", registry=default_registry) is finalizers


def test_first_promised_call_works(registry: kopf.OperatorRegistry) -> None:
    """A finalizer given on a handler, by its full name, guards the objects of that handler."""
    finalizers = configure(domain="mycompany.com", operator="db-operator", registry=registry)

    @finalizers.on.create("things", finalizer="mycompany.com/my-finalizer")
    def create_fn(**_: Any) -> None: ...

    settings = start(registry)
    outcome = cycle(registry, settings, {"metadata": {"name": "t"}})
    assert outcome.finalizers() == ["mycompany.com/my-finalizer"]


def test_second_promised_call_works(registry: kopf.OperatorRegistry) -> None:
    """A global template names the finalizer of all handlers."""
    finalizers = configure(finalizer="mycompany.com/operator-{name}", name="db", registry=registry)

    @finalizers.on.delete("things")
    def delete_fn(**_: Any) -> None: ...

    settings = start(registry)
    outcome = cycle(registry, settings, {"metadata": {"name": "t"}})
    assert outcome.finalizers() == ["mycompany.com/operator-db"]


def test_third_promised_call_works(registry: kopf.OperatorRegistry) -> None:
    """No finalizer at all, on a handler and on the operator: nothing is put on or taken off."""
    finalizers = configure("mycompany.com", "db", finalizer=None, registry=registry)
    seen = list[str]()

    @finalizers.on.event("things", finalizer=None)
    def watch_fn(name: str, **_: Any) -> None:
        seen.append(name)

    settings = start(registry)
    body = {"metadata": {"name": "t", "finalizers": ["kopf.zalando.org/KopfFinalizerMarker"]}}
    outcome = cycle(registry, settings, body)
    assert seen == ["t"]
    assert not outcome.patch
    with pytest.raises(ConfigurationError, match="an operator that only watches"):
        finalizers.on.delete("things")


def test_same_call_in_each_module_returns_the_same(registry: kopf.OperatorRegistry) -> None:
    """A second `configure` with the same identity is the same operator, applied once."""
    first = configure(domain="mycompany.com", operator="db", registry=registry)
    assert configure(finalizer="mycompany.com/db", registry=registry) is first
    assert configure(finalizer="mycompany.com/{name}", name="db", registry=registry) is first
    assert len(registry._activities.get_all_handlers()) == 1


def test_second_identity_in_a_registry_is_refused(registry: kopf.OperatorRegistry) -> None:
    """An operator has one identity: the second one is told which the first is."""
    configure("mycompany.com", "db", registry=registry)
    with pytest.raises(ConfigurationError) as refusal:
        configure("mycompany.com", "queue", registry=registry)
    for words in (
        "already configured as mycompany.com/db",
        "cannot be mycompany.com/queue too",
        "a registry= each",
    ):
        assert words in str(refusal.value)
    assert start(registry).persistence.finalizer == "mycompany.com/db"


def test_two_registries_have_an_identity_each() -> None:
    """Two operators in one process are two registries, and none takes the other's place."""
    one, other = kopf.OperatorRegistry(), kopf.OperatorRegistry()
    configure("mycompany.com", "db", registry=one)
    configure("mycompany.com", "queue", registry=other)
    assert start(one).persistence.finalizer == "mycompany.com/db"
    assert start(other).persistence.finalizer == "mycompany.com/queue"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"storages": False}),
        ({"storages": False}, {}),
        ({}, {"finalizer": None}),
        ({"finalizer": None}, {}),
    ],
)
def test_same_identity_with_other_options_is_refused(
    registry: kopf.OperatorRegistry, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """What the first call said is not quietly overruled by the second."""
    configure("mycompany.com", "db", registry=registry, **first)
    with pytest.raises(ConfigurationError, match="already configured with other options"):
        configure("mycompany.com", "db", registry=registry, **second)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "domain= is missing"),
        ({"operator": "db"}, "domain= is missing"),
        ({"domain": "mycompany.com"}, "operator= is missing"),
        ({"finalizer": None}, "domain= is missing"),
        ({"domain": "mycompany.com", "finalizer": None}, "operator= is missing"),
        (
            {"domain": "mycompany.com", "operator": "db", "name": "x"},
            'name="x" fills in a template',
        ),
        ({"domain": "mycompany.com", "name": "x"}, 'name="x" fills in a template'),
        ({"finalizer": None, "name": "x"}, 'name="x" fills in a template'),
        ({"finalizer": "a.io/b", "domain": "a.io"}, "in place of domain= and operator="),
        ({"finalizer": "a.io/b", "operator": "b"}, "in place of domain= and operator="),
        ({"finalizer": "a.io/b", "domain": "a.io", "operator": "b"}, "in place of domain="),
        ({"finalizer": "a.io/b-{name}"}, "no name is given"),
        ({"finalizer": "a.io/b", "name": "x"}, "has no {name}"),
        ({"finalizer": "my-finalizer"}, "must have one slash"),
        ({"finalizer": True}, "finalizer=True: a whole finalizer or a template"),
        ({"domain": "mycompany.com/db"}, 'write configure(finalizer="mycompany.com/db")'),
        ({"domain": "My.Company", "operator": "db"}, 'Use "my.company".'),
        ({"domain": "mycompany.com", "operator": "d b"}, 'Use "d-b".'),
        ({"domain": "mycompany.com", "operator": 7}, "The operator name must be a string, not int"),
        ({"domain": "kopf.dev", "operator": "db"}, "belongs to Kopf"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    registry: kopf.OperatorRegistry, options: dict[str, Any], said: str
) -> None:
    """A call that does not say who the operator is registers nothing, and says what to write."""
    with pytest.raises(ConfigurationError) as refusal:
        configure(**options, registry=registry)
    assert said in str(refusal.value)
    assert list(registry._activities.get_all_handlers()) == []
    configure("mycompany.com", "db", registry=registry)


def test_registered_startup_handler_is_named_after_the_library(
    registry: kopf.OperatorRegistry,
) -> None:
    """Kopf's log of the startup shows whose handler it is."""
    configure("mycompany.com", "db", registry=registry)
    (handler,) = registry._activities.get_all_handlers()
    assert handler.id == "kopf-finalizers"


def test_users_own_startup_handler_may_follow(registry: kopf.OperatorRegistry) -> None:
    """A startup handler that sets a storage of its own has the last word."""
    configure("mycompany.com", "db", registry=registry)
    storage = kopf.StatusProgressStorage(name="mine")

    def own(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.persistence.progress_storage = storage

    kopf.on.startup(registry=registry)(cast("Any", own))
    settings = start(registry)
    assert settings.persistence.progress_storage is storage
    assert settings.persistence.finalizer == "mycompany.com/db"


# configure, in a handler


def inside(settings: kopf.OperatorSettings, call: Callable[[], Finalizers]) -> Finalizers:
    """Call it as in a handler of an operator that runs with these settings."""
    context = contextvars.copy_context()
    context.run(settings_var.set, settings)
    return context.run(call)


def test_settings_are_changed_at_once_where_they_are_handed_over(
    registry: kopf.OperatorRegistry,
) -> None:
    """With `settings=`, nothing waits for a startup handler that may never run; twice is once."""
    settings = kopf.OperatorSettings()
    call = functools.partial(configure, "mycompany.com", "db", registry=registry, settings=settings)
    finalizers = inside(settings, call)
    assert settings.persistence.finalizer == "mycompany.com/db"
    assert list(registry._activities.get_all_handlers()) == []
    storage = settings.persistence.diffbase_storage
    assert inside(settings, call) is finalizers
    assert settings.persistence.diffbase_storage is storage
    again = kopf.OperatorSettings()
    configure("mycompany.com", "db", registry=registry, settings=again)
    assert again.persistence.finalizer == "mycompany.com/db"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"domain": "mycompany.com", "operator": "db"},
            'configure(domain="mycompany.com", operator="db", settings=settings)',
        ),
        (
            {"domain": "mycompany.com", "operator": "db", "finalizer": None},
            'configure(domain="mycompany.com", operator="db", finalizer=None, settings=settings)',
        ),
        (
            {"finalizer": "a.io/op-{name}", "name": "db"},
            'configure(finalizer="a.io/op-{name}", name="db", settings=settings)',
        ),
    ],
)
def test_call_in_a_handler_without_settings_is_refused(
    registry: kopf.OperatorRegistry, options: dict[str, Any], line: str
) -> None:
    """Its startup handler would never run: the error has the line that does it, as it was meant."""
    settings = kopf.OperatorSettings()
    with pytest.raises(ConfigurationError) as refusal:
        inside(settings, functools.partial(configure, **options, registry=registry))
    assert f"as in kopf_finalizers.{line}," in str(refusal.value)
    assert configured_in(registry) is None


def test_same_call_in_a_module_that_a_handler_imports_is_no_second_identity(
    registry: kopf.OperatorRegistry,
) -> None:
    """Where the operator is configured already, a later call returns the same, as ever."""
    finalizers = configure("mycompany.com", "db", registry=registry)
    settings = start(registry)
    again = functools.partial(configure, "mycompany.com", "db", registry=registry)
    assert inside(settings, again) is finalizers


def test_settings_of_another_operator_are_refused(
    default_registry: kopf.OperatorRegistry,
) -> None:
    """Settings that the running operator does not look at would change nothing, silently."""
    others = kopf.OperatorSettings()
    call = functools.partial(configure, "mycompany.com", "db", settings=others)
    with pytest.raises(ConfigurationError, match="other settings than that operator has"):
        inside(kopf.OperatorSettings(), call)
    assert inside(others, call).name == "mycompany.com/db"
    assert others.persistence.finalizer == "mycompany.com/db"


# What the log says at startup


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "This operator is a.io/db. Its records are under db.a.io. Dedicated finalizers: {}."),
        (
            {"former": ["a.io/old"]},
            (
                "This operator is a.io/db (before: a.io/old). Its records are under db.a.io."
                " Dedicated finalizers: {}."
            ),
        ),
        (
            {"storages": False},
            "This operator is a.io/db. Its storages are its own. Dedicated finalizers: {}.",
        ),
    ],
)
@pytest.mark.parametrize(
    ("declared", "names"),
    [([], "none"), (["x", "y", "x"], "a.io/db.x, a.io/db.y")],
)
def test_log_says_at_startup_who_the_operator_is(
    registry: kopf.OperatorRegistry,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    line: str,
    declared: list[str],
    names: str,
) -> None:
    """One line has the finalizer, where the records are, and the dedicated finalizers."""
    finalizers = configure("a.io", "db", registry=registry, **options)
    for number, purpose in enumerate(declared):
        finalizers.on.create("things", finalizer=purpose, id=str(number))(fn)
    with caplog.at_level(logging.INFO, "kopf_finalizers"):
        start(registry)
    lines = [one.getMessage() for one in caplog.records if one.name == "kopf_finalizers"]
    assert [one for one in lines if "This operator is" in one] == [line.format(names)]


def test_log_says_that_an_operator_only_watches(
    registry: kopf.OperatorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader of the log need not look for finalizers that are never written."""
    configure("a.io", "viewer", finalizer=None, registry=registry)
    with caplog.at_level(logging.INFO, "kopf_finalizers"):
        start(registry)
    assert "This operator is a.io/viewer and only watches." in caplog.text


def test_each_finalizer_declared_after_startup_is_named_once(
    registry: kopf.OperatorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """What a startup handler declares is added to what the log says of the operator."""
    settings = kopf.OperatorSettings()
    finalizers = configure("a.io", "db", registry=registry, settings=settings)
    with caplog.at_level(logging.INFO, "kopf_finalizers"):
        finalizers.on.create("things", finalizer="x")(fn)
        finalizers.on.update("things", finalizer="x")(fn)
    assert caplog.text.count("Another dedicated finalizer of this operator: a.io/db.x.") == 1


# Handlers that are declared when the identity is in force


@pytest.mark.parametrize("is_ours", [True, False])
def test_objects_of_handlers_declared_late_are_looked_at(
    registry: kopf.OperatorRegistry, caplog: pytest.LogCaptureFixture, is_ours: bool
) -> None:
    """A startup handler may declare handlers after `configure`: the default marker is seen there.

    Those of `kopf.on` are known by the first event of any handler that was known before.
    """
    settings = kopf.OperatorSettings()
    kopf.on.event("example.com", "v1", "things", registry=registry)(cast("Any", fn))
    finalizers = configure("a.io", "db", registry=registry, storages=False, settings=settings)
    if is_ours:
        finalizers.on.create("things")(fn)
    else:
        kopf.on.create("things", registry=registry)(cast("Any", fn))
        marker = cast("Any", finalizers._application._marker)
        assert not marker.resources._look(body=kopf.Body({"metadata": {}}))
    there = "kopf.zalando.org/KopfFinalizerMarker"
    cycle(registry, settings, {"kind": "Thing", "metadata": {"name": "t", "finalizers": [there]}})
    assert "carry Kopf's default finalizer" in caplog.text


# Finalizers


def test_finalizers_register_nothing_by_themselves(default_registry: kopf.OperatorRegistry) -> None:
    """Made directly, for an embedded operator, it is `apply` that makes the settings the own."""
    finalizers = Finalizers(IDENTITY)
    assert list(default_registry._activities.get_all_handlers()) == []
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    assert settings.persistence.finalizer == "mycompany.com/db-operator"


def test_finalizers_know_their_names() -> None:
    """The operator's own name, and those of its purposes, as its identity derives them."""
    finalizers = Finalizers(IDENTITY)
    assert finalizers.identity is IDENTITY
    assert finalizers.name == "mycompany.com/db-operator"
    assert finalizers.name_for("backups") == "mycompany.com/db-operator.backups"
    assert finalizers.name_for("mycompany.com/x") == "mycompany.com/x"
    assert repr(finalizers) == "<Finalizers of mycompany.com/db-operator>"
    with pytest.raises(ConfigurationError, match='Use "backups"'):
        finalizers.name_for("Backups")


@pytest.mark.parametrize(
    ("purpose", "name"),
    [
        (None, "mycompany.com/db-operator"),
        ("backups", "mycompany.com/db-operator.backups"),
        ("mycompany.com/my-finalizer", "mycompany.com/my-finalizer"),
    ],
)
@pytest.mark.parametrize(
    ("change", "kind"), [(Finalizers.add, "AddFinalizer"), (Finalizers.remove, "RemoveFinalizer")]
)
def test_finalizers_change_their_own_entries(
    change: Callable[..., None], kind: str, purpose: str | None, name: str
) -> None:
    """`add` and `remove` change the operator's own finalizer, or one for a purpose."""
    patch = kopf.Patch()
    change(Finalizers(IDENTITY), patch, purpose)
    assert repr(patch.fns) == f"[{kind}('{name}')]"
    again = kopf.Patch()
    change(Finalizers(IDENTITY), again, *([] if purpose is None else [purpose]))
    assert again.fns == patch.fns


@pytest.mark.parametrize("change", [Finalizers.add, Finalizers.remove])
@pytest.mark.parametrize("purpose", ["other.org/f", "Backups", "", "mycompany.com/db-operator"])
def test_finalizers_do_not_change_what_is_not_theirs(
    change: Callable[..., None], purpose: str
) -> None:
    """A name that the operator may not use for a handler it may not add or remove either."""
    patch = kopf.Patch()
    with pytest.raises(ConfigurationError):
        change(Finalizers(IDENTITY), patch, purpose)
    assert not patch


@pytest.mark.parametrize("storages", [True, False])
@pytest.mark.parametrize("watches_only", [True, False])
def test_finalizers_take_what_configure_takes(
    registry: kopf.OperatorRegistry, storages: bool, watches_only: bool
) -> None:
    """The options of `configure` are passed on as they are."""
    finalizer: dict[str, Any] = {"finalizer": None} if watches_only else {}
    made = configure(
        "mycompany.com", "db-operator", registry=registry, storages=storages, **finalizer
    )
    direct = Finalizers(IDENTITY, storages=storages, watches_only=watches_only)
    assert (made.identity, made.storages, made.watches_only) == (IDENTITY, storages, watches_only)
    assert (direct.storages, direct.watches_only) == (storages, watches_only)


def test_every_public_name_is_there() -> None:
    """All that the package promises can be imported from it, and is promised once."""
    assert all(hasattr(kopf_finalizers, name) for name in kopf_finalizers.__all__)
    assert len(set(kopf_finalizers.__all__)) == len(kopf_finalizers.__all__)


def test_operator_that_only_watches_cannot_put_its_own_finalizer_on_by_hand() -> None:
    """Kopf would take it off each time; one with a purpose is left alone."""
    finalizers = configure(
        "mycompany.com", "viewer", finalizer=None, registry=kopf.OperatorRegistry()
    )
    patch = kopf.Patch()
    with pytest.raises(ConfigurationError, match=r'finalizers\.add\(patch, "snapshots"\)'):
        finalizers.add(patch)
    finalizers.add(patch, "snapshots")
    assert len(patch.fns) == 1
