"""What the library relies on in Kopf: each test fails when a release of Kopf changes it.

Private names of Kopf are read here so that the library itself need not read them.
"""

import asyncio
import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar, cast, get_args, get_type_hints

import kopf
import pytest
from kopf._cogs.clients import api, patching
from kopf._core.actions import application
from kopf._core.engines.indexing import OperatorIndexers
from kopf._core.intents.causes import WatchingCause

from kopf_finalizers import _on as decorators
from kopf_finalizers._dedicated.filters import FILTERS
from kopf_finalizers._kopf import body_of, settings_in_force
from kopf_finalizers._on import On
from kopf_finalizers._settings import KOPF_FINALIZER
from kopf_finalizers._unset import LEFT_OUT

from ..support.kopf_cycles import RESOURCE, cycle
from ..support.servers import Body

KINDS = ["create", "resume", "update", "delete", "field", "event", "daemon", "timer"]


def _handlers(registry: kopf.OperatorRegistry) -> list[Any]:
    """All handlers of a registry, in the order in which Kopf asks them."""
    parts = (registry._watching, registry._spawning, registry._changing)
    return [handler for part in parts for handler in part.get_all_handlers()]


# The one private attribute


def test_patch_knows_the_body_that_kopf_made_it_for() -> None:
    """`body_of` finds the body of a handler's patch, also of one made from leftovers."""
    body = kopf.Body({"metadata": {"name": "t"}})
    assert body_of(kopf.Patch(body=body)) is body
    assert body_of(kopf.Patch(kopf.Patch({"a": 1}), body=body)) is body
    assert body_of(kopf.Patch()) is None


@pytest.mark.parametrize("is_async", [True, False])
def test_handlers_have_the_settings_of_their_operator_around_them(is_async: bool) -> None:
    """`settings_in_force` is what Kopf runs with, also in threads; and nothing outside of them."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    found = list[object]()

    def plain(**_: Any) -> None:
        found.append(settings_in_force())

    async def awaited(**_: Any) -> None:
        found.append(settings_in_force())

    kopf.on.startup(registry=registry)(awaited if is_async else plain)

    async def operate() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        operator = kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=True,
            ready_flag=ready,
            stop_flag=stop,
        )
        task = asyncio.create_task(operator)
        await ready.wait()
        stop.set()
        await asyncio.wait([task])

    kopf.on.login(registry=registry)(lambda **_: kopf.ConnectionInfo(server="http://127.0.0.1:1"))
    asyncio.run(operate())
    assert found == [settings]
    assert found[0] is settings
    assert settings_in_force() is None


def test_kopf_that_keeps_its_settings_elsewhere_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without that variable nothing is known of running operators, and nothing fails."""
    monkeypatch.delattr("kopf._core.engines.posting.settings_var")
    assert settings_in_force() is None


def test_leftover_functions_come_back_on_the_next_patch() -> None:
    """What Kopf could not send is on the next cycle's patch, and makes that patch true."""
    leftover = kopf.Patch(fns=[print])
    patch = kopf.Patch(leftover, body=kopf.Body({}))
    assert patch.fns == [print]
    assert patch
    assert not kopf.Patch()


def test_functions_of_a_patch_may_be_taken_off() -> None:
    """`patch.fns` is the list that Kopf sends, not a copy of it."""
    patch = kopf.Patch(fns=[print])
    patch.fns[:] = []
    assert not patch


# The decorators' arguments


# What a decorator takes besides Kopf's arguments and `finalizer=`.
OWN_ARGUMENTS = {"delete": ["leaves", "release_after", "on_timeout"]}


@pytest.mark.parametrize("kind", KINDS)
def test_decorators_take_what_kopfs_take(kind: str) -> None:
    """Each decorator has exactly the arguments of Kopf's, and those of this library."""
    kopfs = inspect.signature(getattr(kopf.on, kind)).parameters
    ours = inspect.signature(getattr(On, kind)).parameters
    positional = [p.name for p in kopfs.values() if p.kind is p.POSITIONAL_ONLY]
    assert [p.name for p in ours.values() if p.kind is p.POSITIONAL_ONLY] == ["self", *positional]

    own = [p.name for p in ours.values() if p.kind is p.KEYWORD_ONLY]
    assert own == ["finalizer", *OWN_ARGUMENTS.get(kind, [])]
    assert ours["finalizer"].default is LEFT_OUT

    (options,) = get_args(get_type_hints(getattr(On, kind))["options"])
    keywords = {p.name for p in kopfs.values() if p.kind is p.KEYWORD_ONLY}
    assert set(get_type_hints(options)) == keywords
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in kopfs.values())


def test_positional_arguments_are_options_when_kopf_gives_them_defaults() -> None:
    """Only `kopf.on.field` has an argument that must be given, `field=`."""
    required = {
        (kind, p.name)
        for kind in KINDS
        for p in inspect.signature(getattr(kopf.on, kind)).parameters.values()
        if p.default is p.empty
    }
    assert required == {("field", "field")}


def test_decorators_are_all_that_kopf_has_for_objects() -> None:
    """A new decorator of Kopf's that takes a resource would need one here."""
    with_resource = {
        name
        for name, fn in vars(kopf.on).items()
        if inspect.isfunction(fn) and "arg1" in inspect.signature(fn).parameters
    }
    assert with_resource - set(KINDS) == {"index", "mutate", "validate"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (FILTERS, {"labels", "annotations", "when", "field", "value"}),
        (
            decorators._SELECTOR_OPTIONS,
            {"group", "version", "kind", "plural", "singular", "shortcut", "category"},
        ),
    ],
)
def test_what_an_event_can_be_filtered_by_is_known(
    options: frozenset[str], names: set[str]
) -> None:
    """The options that the event registrations copy are the ones that `kopf.on.event` takes."""
    assert options == names
    assert names <= set(inspect.signature(kopf.on.event).parameters)


def test_event_takes_nothing_more_to_filter_by() -> None:
    """A new filter of Kopf's would have to be copied too."""
    known = FILTERS | decorators._SELECTOR_OPTIONS
    others = set(inspect.signature(kopf.on.event).parameters) - known
    assert others == {"arg1", "arg2", "arg3", "id", "param", "registry"}


# Ids


def function(**_: Any) -> None: ...


async def coroutine(**_: Any) -> None: ...


@functools.wraps(function)
def wrapper(**_: Any) -> None: ...


@functools.wraps(functools.partial(function, a=1))
def wrapper_of_a_partial(**_: Any) -> None: ...


class Operator:
    def method(self, **_: Any) -> None: ...

    @staticmethod
    def static(**_: Any) -> None: ...

    @classmethod
    def of_class(cls, **_: Any) -> None: ...

    raw: ClassVar[Any] = vars()["static"]


def _nested() -> Callable[..., None]:
    def inner(**_: Any) -> None: ...

    return inner


FUNCTIONS = {
    "function": function,
    "coroutine": coroutine,
    "lambda": lambda **_: None,
    "partial": functools.partial(function, a=1),
    "partial of a partial": functools.partial(functools.partial(coroutine, a=1), b=2),
    "partial of a lambda": functools.partial(lambda **_: None),
    "wrapper": wrapper,
    "wrapper of a partial": wrapper_of_a_partial,
    "partial of a wrapper": functools.partial(wrapper),
    "bound method": Operator().method,
    "unbound method": Operator.method,
    "static method": Operator.static,
    "static method in a class body": Operator.raw,
    "class method": Operator.of_class,
    "nested function": _nested(),
}


@pytest.mark.parametrize("fn", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"field": "spec.size"},
        {"field": ["spec", "size"]},
        {"field": ("spec",)},
        {"id": "x"},
        {"id": "x", "field": "spec"},
    ],
)
def test_dedicated_handler_has_the_id_that_kopf_gives(
    fn: Callable[..., Any], options: dict[str, Any]
) -> None:
    """A handler's id, by which its progress is known, does not change with `finalizer=`."""
    plain, ours = kopf.OperatorRegistry(), kopf.OperatorRegistry()
    kopf.on.delete("things", registry=plain, **options)(fn)
    on, dedicated = _on(ours)
    on.delete("things", finalizer="backups", **options)(fn)
    (theirs,) = _handlers(plain)
    assert _handlers(ours)[-1].id == theirs.id
    assert dedicated.uses[0].handler_id == theirs.id


def _on(registry: kopf.OperatorRegistry) -> tuple[On, Any]:
    from kopf_finalizers import Finalizers, OperatorIdentity

    identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
    # With storages of its own, which may keep progress under any id.
    finalizers = Finalizers(identity, registry=registry, storages=False)
    return finalizers.on, finalizers._dedicated


@pytest.mark.parametrize("fn", [object(), print, None, Operator])
def test_what_kopf_refuses_as_a_handler_is_refused(fn: Any) -> None:
    """What Kopf finds no id for is refused with `finalizer=` too, by Kopf's own error."""
    with pytest.raises(ValueError, match=r"Cannot (get|build)"):
        kopf.on.delete("things", registry=kopf.OperatorRegistry())(fn)
    on, dedicated = _on(kopf.OperatorRegistry())
    with pytest.raises(ValueError, match=r"Cannot (get|build)"):
        on.delete("things", finalizer="backups")(fn)
    assert dedicated.uses == []


# Filters and storages in one cycle


def _cause(body: kopf.Body, patch: kopf.Patch) -> WatchingCause:
    raw = cast("Any", {"type": "MODIFIED", "object": dict(body)})
    return WatchingCause(
        type="MODIFIED",
        event=raw,
        resource=cast("Any", RESOURCE),
        indices=OperatorIndexers().indices,
        logger=logging.getLogger("test"),
        memo=cast("Any", kopf.Memo()),
        patch=patch,
        body=body,
    )


def test_callback_is_asked_once_and_after_all_other_filters() -> None:
    """Kopf asks `when=` last, once per event, and not at all where another filter says no."""
    registry = kopf.OperatorRegistry()
    asked = list[str]()

    def noting(what: str, answer: bool) -> Callable[..., bool]:
        def note(*_: Any, **__: Any) -> bool:
            asked.append(what)
            return answer

        return note

    event = functools.partial(kopf.on.event, "example.com", "v1", "things", registry=registry)
    event(
        id="matching",
        labels={"a": noting("labels", True)},
        annotations={"a": noting("annotations", True)},
        field="spec.a",
        value=noting("value", True),
        when=noting("when", True),
    )(function)
    event(id="no label", labels={"a": noting("label", False)}, when=noting("1", True))(function)
    event(id="no field", field="spec.b", when=noting("2", True))(function)
    event(id="last", when=noting("the last one", False))(function)
    kopf.on.event("others", registry=registry, when=noting("3", True))(function)

    body = kopf.Body({"metadata": {"name": "t"}, "spec": {"a": 1}})
    found = registry._watching.get_handlers(cause=_cause(body, kopf.Patch(body=body)))
    assert [handler.id for handler in found] == ["matching/spec.a"]
    assert asked == ["labels", "annotations", "value", "when", "label", "the last one"]


def test_callback_is_asked_with_what_the_library_reads() -> None:
    """An event's callback gets `body`, `patch`, `type` and `logger`, and nothing of a change."""
    registry = kopf.OperatorRegistry()
    seen = dict[str, Any]()

    def note(**kwargs: Any) -> bool:
        seen.update(kwargs)
        return False

    kopf.on.event("things", registry=registry, when=note)(function)
    body = kopf.Body({"metadata": {"name": "t"}})
    patch = kopf.Patch(body=body)
    assert not registry._watching.get_handlers(cause=_cause(body, patch))
    assert seen["body"] is body
    assert seen["patch"] is patch
    assert seen["type"] == "MODIFIED"
    assert seen["logger"].name == "test"
    assert not {"old", "new", "diff", "reason"} & set(seen)


class Recorder(kopf.ProgressStorage):
    """A storage that notes when Kopf asks what."""

    def __init__(self, log: list[str], record: Any = None) -> None:
        super().__init__()
        self.log = log
        self.record = record

    def fetch(self, **kwargs: Any) -> Any:
        self.log.append(f"fetch {kwargs['key']}")
        return self.record

    def store(self, **kwargs: Any) -> None:
        record = kwargs["record"]
        how = "success" if record["success"] else "failure" if record["failure"] else "again"
        self.log.append(f"store {kwargs['key']}: {how}")

    def purge(self, **kwargs: Any) -> None:
        self.log.append(f"purge {kwargs['key']}")

    def touch(self, **_: Any) -> None:
        self.log.append("touch")

    def clear(self, *, essence: Any) -> Any:
        return essence

    def flush(self) -> None:
        self.log.append("flush")


def _settings(storage: Recorder) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.progress_storage = storage
    return settings


FINALIZER = kopf.OperatorSettings().persistence.finalizer

DELETING: Body = {
    "metadata": {
        "name": "t",
        "finalizers": [FINALIZER],
        "deletionTimestamp": "2030-01-01T00:00:00Z",
    }
}


@pytest.mark.parametrize(
    ("failure", "stored", "purged"),
    [
        (None, "success", True),
        (kopf.PermanentError("no"), "failure", True),
        (kopf.TemporaryError("later", delay=9), "again", False),
    ],
)
def test_storage_is_told_how_each_cleanup_ended(
    failure: Exception | None, stored: str, purged: bool
) -> None:
    """The order the library builds on: filters, fetch, the handler, store, flush, then purge."""
    registry = kopf.OperatorRegistry()
    log = list[str]()

    def note(**_: Any) -> bool:
        log.append("filter")
        return False

    @kopf.on.delete("things", registry=registry, id="cleanup")
    def cleanup(**_: Any) -> None:
        log.append("cleanup")
        if failure is not None:
            raise failure

    kopf.on.event("things", registry=registry, when=note)(function)
    patch = cycle(registry, _settings(Recorder(log)), DELETING).patch
    ended = log.index(f"store cleanup: {stored}")
    # Kopf flushes after a handler's sub-handlers too, even where there are none.
    assert [entry for entry in log[:ended] if entry != "flush"] == [
        "filter",
        "fetch cleanup",
        "cleanup",
    ]
    assert log[ended + 1 :] == ["flush", *(["purge cleanup", "flush", "touch"] if purged else [])]
    assert bool(patch.fns) == purged  # the release of Kopf's own finalizer


def test_handler_with_a_delayed_record_is_not_called() -> None:
    """A record that says "later" keeps a handler waiting, and Kopf stores nothing new of it."""
    registry = kopf.OperatorRegistry()
    log = list[str]()

    @kopf.on.create("things", registry=registry)
    def created(**_: Any) -> None:
        log.append("created")

    storage = Recorder(log, {"delayed": "2999-01-01T00:00:00+00:00"})
    assert cycle(registry, _settings(storage), {"metadata": {"name": "t"}}).delays
    assert "created" not in log


def test_no_handler_is_called_in_a_cycle_that_begins_with_leftovers() -> None:
    """Kopf sends what is left over first; that is why the library makes it come back."""
    registry = kopf.OperatorRegistry()
    log = list[str]()

    @kopf.on.delete("things", registry=registry)
    def cleanup(**_: Any) -> None:
        log.append("cleanup")

    leftover = kopf.Patch(fns=[lambda raw: None])
    cycle(registry, _settings(Recorder(log)), DELETING, leftover=leftover)
    assert log == ["touch"]


def test_last_touch_is_removed_in_the_patch_of_the_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kopf asks the storage for that at the end, before it sends the same patch."""
    log = list[str]()
    body, patch = kopf.Body({"metadata": {"name": "t"}}), kopf.Patch({"spec": {"size": 2}})

    class Removing(Recorder):
        def touch(self, **kwargs: Any) -> None:
            assert kwargs["patch"] is patch
            log.append(f"touch {kwargs['value']}")

    async def send(**kwargs: Any) -> tuple[None, None]:
        assert kwargs["patch"] is patch
        log.append("send")
        return None, None

    monkeypatch.setattr(application, "patch_and_check", send)
    arguments = {
        "settings": _settings(Removing(log)),
        "resource": RESOURCE,
        "body": body,
        "patch": patch,
        "logger": logging.getLogger("apply"),
        "delays": [],
    }
    asyncio.run(cast("Any", application.apply)(**arguments))
    assert log == ["touch None", "send"]


def test_status_is_written_first_of_a_merge_patch_and_last_of_a_json_patch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason to leave storages that write the status to Kopf: progress has to come first."""
    sent = list[tuple[str, str]]()
    body: Any = {"metadata": {"name": "t", "resourceVersion": "1"}}

    async def send(**kwargs: Any) -> Any:
        kind = kwargs["headers"]["Content-Type"].partition("-")[0].rpartition("/")[2]
        sent.append((kind, kwargs["url"].rpartition("/")[2]))
        return body

    def change(raw: Any) -> None:
        raw["metadata"]["finalizers"] = ["a.io/b"]
        raw["status"] = {"changed": True}

    monkeypatch.setattr(api, "patch", send)
    arguments = {
        "settings": kopf.OperatorSettings(),
        "resource": dataclasses.replace(RESOURCE, subresources=frozenset({"status"})),
        "namespace": "default",
        "name": "t",
        "patch": kopf.Patch(
            {"status": {"merged": True}}, body=kopf.Body(cast("kopf.RawBody", body)), fns=[change]
        ),
        "logger": logging.getLogger("patch_obj"),
    }
    asyncio.run(cast("Any", patching.patch_obj)(**arguments))
    assert sent == [("merge", "status"), ("json", "t"), ("json", "status")]


def test_no_cleanup_is_called_without_kopfs_own_finalizer() -> None:
    """Without Kopf's finalizer no cleanup is called; that is why the library lets go then."""
    registry = kopf.OperatorRegistry()
    log = list[str]()

    @kopf.on.delete("things", registry=registry)
    def cleanup(**_: Any) -> None:
        log.append("cleanup")

    metadata = {**DELETING["metadata"], "finalizers": ["mycompany.com/x"]}
    cycle(registry, _settings(Recorder(log)), {"metadata": metadata})
    assert log == []


def test_storages_have_no_methods_that_the_library_does_not_forward() -> None:
    """A new method of Kopf's progress storages would pass an operator's own storage by."""
    methods = {
        name
        for name, member in vars(kopf.ProgressStorage).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    assert methods == {"fetch", "store", "purge", "touch", "clear", "flush"}
    assert methods - {"flush"} <= set(vars(kopf.MultiProgressStorage))


# Constants


def test_kopfs_default_finalizer_is_the_one_that_is_warned_about() -> None:
    """The library knows Kopf's default finalizer by its name."""
    assert kopf.OperatorSettings().persistence.finalizer == KOPF_FINALIZER


def test_prefixes_that_begin_with_kopf_are_not_marked() -> None:
    """The reason to refuse the operator name "kopf": Kopf marks no such prefix as its own."""
    marked = dict[str, bool]()
    for prefix in ("kopf.mycompany.com", "db.mycompany.com"):
        body = kopf.Body({"metadata": {"name": "t"}})
        patch = kopf.Patch(body=body)
        storage = kopf.AnnotationsProgressStorage(prefix=prefix, v1=False)
        storage.touch(body=body, patch=patch, value="x")
        marked[prefix] = f"{prefix}/kopf-managed" in patch.metadata.annotations
    assert marked == {"kopf.mycompany.com": False, "db.mycompany.com": True}


def test_prefixes_up_to_the_limit_are_taken_without_a_warning() -> None:
    """The limit of storage prefixes is Kopf's own: it warns of longer ones."""
    for storage in (kopf.AnnotationsProgressStorage, kopf.AnnotationsDiffBaseStorage):
        storage(prefix="p" * 189, v1=False)
        with pytest.warns(UserWarning, match="prefix is too long"):
            storage(prefix="p" * 190, v1=False)
