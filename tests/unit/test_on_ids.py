"""Handler ids: cleanups that Kopf would take for one, and ids under which nothing can be stored."""

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity

from ..support.kopf_cycles import RESOURCE, cycle
from ..support.servers import Body

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")


def finalizers_in(registry: kopf.OperatorRegistry, **options: Any) -> Finalizers:
    return Finalizers(IDENTITY, registry=registry, **options)


def fn(**_: Any) -> None: ...


# Cleanups that Kopf takes for one


def cleanup_named(name: str) -> Callable[..., None]:
    def cleanup(**_: Any) -> None: ...

    def other(**_: Any) -> None: ...

    return cleanup if name == "cleanup" else other


class Bucket:
    def drop(self, **_: Any) -> None: ...


class Differing:
    """A param that cannot be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


@pytest.mark.parametrize(("first", "second"), [("backups", "dns"), ("backups", None)])
@pytest.mark.parametrize("turned", [False, True])
def test_two_cleanups_with_one_id_are_refused(first: str, second: str | None, turned: bool) -> None:
    """Kopf would take the success of one for that of the other, and its finalizer would go."""
    on = finalizers_in(kopf.OperatorRegistry()).on
    given = [{"finalizer": first}, {"finalizer": second} if second else {}]
    one, another = reversed(given) if turned else given
    cast("Any", on.delete)("things", id="cleanup", **one)(cleanup_named("cleanup"))
    with pytest.raises(ConfigurationError, match=r'have the id "cleanup".*give it one: id="..."'):
        cast("Any", on.delete)("things", id="cleanup", **another)(cleanup_named("other"))


@pytest.mark.parametrize("finalizer", ["backups", "dns"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: cleanup_named("cleanup"),
        lambda: Bucket().drop,
        lambda: functools.partial(fn, bucket="a"),
    ],
    ids=["factory", "method", "partial"],
)
def test_two_cleanups_that_are_written_in_one_place_are_refused(
    make: Callable[[], Any], finalizer: str
) -> None:
    """In a loop, say, or for two objects: Kopf gives them one id, and they are two all the same."""
    on = finalizers_in(kopf.OperatorRegistry()).on
    on.delete("things", finalizer="backups")(make())
    with pytest.raises(ConfigurationError, match="have the id"):
        on.delete("things", finalizer=finalizer)(make())
    on.delete("things", finalizer="other", id="other")(make())


@pytest.mark.parametrize("finalizer", ["backups", "dns"])
@pytest.mark.parametrize("params", [("a", "b"), (None, "a"), (Differing(), Differing())])
def test_one_function_with_two_params_is_two_cleanups(
    params: tuple[Any, Any], finalizer: str
) -> None:
    """Kopf would call it for the first alone; with an id each, it is called for both."""
    on = finalizers_in(kopf.OperatorRegistry()).on
    on.delete("things", finalizer="backups", param=params[0])(fn)
    with pytest.raises(ConfigurationError, match='have the id "fn"'):
        on.delete("things", finalizer=finalizer, param=params[1])(fn)
    on.delete("things", finalizer="dns", param=params[1], id="two")(fn)


def test_one_cleanup_under_two_filters_is_one() -> None:
    """With one function, or one method of one object, one id, one param and one finalizer."""
    on: Any = finalizers_in(kopf.OperatorRegistry()).on
    bucket, param = Bucket(), Differing()
    for value in ("a", "b"):
        on.delete("things", finalizer="backups", labels={"kind": value}, param={"a": 1})(fn)
        on.delete("things", finalizer="buckets", labels={"kind": value})(bucket.drop)
        on.delete("things", finalizer="dns", labels={"kind": value}, param=param, id="x")(fn)
        on.delete("others", finalizer="dns", labels={"kind": value}, id="fn")(fn)


@pytest.mark.parametrize("turned", [False, True])
def test_one_id_in_two_versions_is_refused(turned: bool) -> None:
    """All versions of a resource have the same objects, and an object has one record of an id."""
    on: Any = finalizers_in(kopf.OperatorRegistry()).on
    one, other = ("example.com", "v1", "things"), ("example.com", "v1beta1", "things")
    first, second = (other, one) if turned else (one, other)
    on.delete(*first, id="x", finalizer="backups")(cleanup_named("cleanup"))
    with pytest.raises(ConfigurationError, match="have the id"):
        on.delete(*second, id="x", finalizer="dns")(cleanup_named("other"))
    on.delete(*second, id="y", finalizer="dns")(cleanup_named("other"))
    on.delete("example.org", "v1", "things", id="x", finalizer="dns")(cleanup_named("other"))


def test_one_id_is_no_matter_where_the_cleanups_do_not_meet() -> None:
    """On other resources, in another operator, for the same function, or with Kopf's finalizer."""
    finalizers = finalizers_in(kopf.OperatorRegistry())
    one, other = cleanup_named("cleanup"), cleanup_named("other")
    finalizers.on.delete("things", finalizer="backups", id="x")(one)
    finalizers.on.delete("things", finalizer="dns", id="x")(one)
    finalizers.on.create("things", finalizer="dns", id="x")(other)
    finalizers.on.delete("others", finalizer="dns", id="x")(other)
    finalizers.on.delete("plain", id="x")(one)
    finalizers.on.delete("plain", id="x")(other)
    finalizers_in(kopf.OperatorRegistry()).on.delete("things", finalizer="dns", id="x")(other)


# Kopf's own decorators beside them


def test_cleanup_of_kopfs_own_decorator_with_that_id_is_refused() -> None:
    """It was declared first: the later one is refused where it is written."""
    registry = kopf.OperatorRegistry()
    finalizers = finalizers_in(registry)
    kopf.on.create("things", id="drop", registry=registry)(fn)
    kopf.on.delete("others", id="drop", registry=registry)(fn)
    finalizers.on.delete("things", id="drop", finalizer="backups")(cleanup_named("cleanup"))
    kopf.on.delete("others", id="other", registry=registry)(fn)
    with pytest.raises(ConfigurationError, match='have the id "other"'):
        finalizers.on.delete("others", id="other", finalizer="backups")(cleanup_named("cleanup"))


@pytest.mark.parametrize("resource", [("things",), ("example.com", "v1", "things")])
def test_cleanup_of_kopfs_own_decorator_that_comes_later_is_refused_at_the_start(
    resource: Any,
) -> None:
    """Kopf's decorators tell nobody: it is seen when the identity is applied."""
    registry = kopf.OperatorRegistry()
    finalizers = finalizers_in(registry)
    finalizers.on.delete("things", id="drop", finalizer="backups")(cleanup_named("cleanup"))
    kopf.on.delete(*resource, id="drop", registry=registry)(fn)
    with pytest.raises(ConfigurationError, match='have the id "drop"'):
        finalizers.apply(kopf.OperatorSettings())


def test_cleanup_that_a_startup_handler_declares_is_refused_in_each_cycle() -> None:
    """As everything that is seen only then: nothing is handled, and Kopf's log says why."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    finalizers = finalizers_in(registry)
    finalizers.on.delete("things", id="drop", finalizer="backups")(cleanup_named("cleanup"))
    finalizers.apply(settings)
    kopf.on.delete("things", id="drop", registry=registry)(fn)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match='have the id "drop"'):
            cycle(registry, settings, THING)


def test_function_may_be_a_cleanup_by_both_decorators() -> None:
    """One function under one id is one cleanup to Kopf, whoever has declared it."""
    registry = kopf.OperatorRegistry()
    finalizers = finalizers_in(registry)
    kopf.on.delete("things", registry=registry, labels={"a": "b"})(fn)
    finalizers.on.delete("things", finalizer="backups")(fn)
    finalizers.apply(kopf.OperatorSettings())


# A file that is loaded again

FILE = """
import functools
from kopf_finalizers import Finalizers
from tests.unit.test_on_ids import finalizers, wrapped

class Bucket:
    def drop(self, **_): ...

class Cleanup:
    def __call__(self, **_): ...

@finalizers.on.delete("things", finalizer="one")
def written(**_): ...

@finalizers.on.delete("things", finalizer="two")
@wrapped
def decorated(**_): ...

def of_bucket(bucket, **_): ...

finalizers.on.delete("things", finalizer="three")(Bucket().drop)
finalizers.on.delete("things", finalizer="four")(functools.partial(of_bucket, bucket="a"))
finalizers.on.delete("things", finalizer="five", id="five")(Cleanup())
finalizers.on.delete("things", finalizer="six", param=object(), id="six")(of_bucket)
"""

finalizers = finalizers_in(kopf.OperatorRegistry())


def wrapped(fn: Callable[..., None]) -> Callable[..., None]:
    """A decorator that says nothing of what it wraps, in a file that is loaded once."""

    def wrapper(**kwargs: Any) -> None:
        fn(**kwargs, later=later)

    for later in list[str]():  # it stays without a value
        raise AssertionError(later)
    return wrapper


def load(file: Path) -> None:
    spec = importlib.util.spec_from_file_location("loaded_again", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_file_that_is_loaded_again_may_declare_its_cleanups_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when several tests run the same operator: to Kopf it makes no difference."""
    monkeypatch.setattr(sys.modules[__name__], "finalizers", finalizers_in(kopf.OperatorRegistry()))
    file = tmp_path / "operator_file.py"
    file.write_text(FILE)
    load(file)
    load(file)
    file.write_text(
        f"{FILE}\n@finalizers.on.delete('things', finalizer='one')\ndef new(**_): ...\n"
    )
    with pytest.raises(ConfigurationError, match="already waits for the cleanup written"):
        load(file)


def test_two_functions_that_one_decorator_wraps_are_two() -> None:
    """They have one id, that of the wrapper, and are not one function that was loaded again."""
    on = finalizers_in(kopf.OperatorRegistry()).on
    on.delete("things", finalizer="backups")(wrapped(fn))
    with pytest.raises(ConfigurationError, match="have the id"):
        on.delete("things", finalizer="backups")(wrapped(cleanup_named("other")))


def test_function_that_wraps_itself_has_its_own_name() -> None:
    """Nobody looks for ever for what it wraps."""

    def circular(**_: Any) -> None: ...

    circular.__wrapped__ = circular  # type: ignore[attr-defined]
    circular.__qualname__ = "circular"
    registry = kopf.OperatorRegistry()
    finalizers_in(registry).on.delete("things", finalizer="backups")(circular)
    assert [handler.id for handler in registry._changing.get_all_handlers()] == ["circular"]


# Ids that no annotation can have

THING: Body = {
    "apiVersion": f"{RESOURCE.group}/{RESOURCE.version}",
    "kind": RESOURCE.kind,
    "metadata": {"name": "one", "namespace": "default", "uid": "1-2"},
    "spec": {},
}

UNFIT = {
    "_drop_backups": "drop_backups",
    "drop_backups_": "drop_backups",
    "drop backups": "drop-backups",
    "drop:backups": "drop-backups",
    "-": "handler",
    "été": "t",
    "lambda:/operators/db.py:12": "lambda-12",
}
FIT = ["drop_backups", "Database.drop", "make.<locals>.drop_bucket", "a/b/c", "x" * 300, "7"]
WITH_PROGRESS = ["create", "resume", "update", "delete", "field"]


def declare(on: Any, kind: str, handler: Any = fn, **options: Any) -> None:
    field = {"field": "spec.size"} if kind == "field" else {}
    getattr(on, kind)("things", **field, **options)(handler)


@pytest.mark.parametrize("kind", WITH_PROGRESS)
@pytest.mark.parametrize("finalizer", [{}, {"finalizer": "backups"}])
@pytest.mark.parametrize(("unfit", "better"), UNFIT.items())
def test_id_that_no_annotation_can_have_is_refused(
    kind: str, finalizer: dict[str, Any], unfit: str, better: str
) -> None:
    """Its progress could not be stored; the id that would do is named, and does."""
    if kind == "field" and unfit == "drop_backups_":
        return  # Kopf adds the field, and then it ends otherwise
    on = finalizers_in(kopf.OperatorRegistry()).on
    with pytest.raises(ConfigurationError) as refusal:
        declare(on, kind, id=unfit, **finalizer)
    assert f'after the handler id "{unfit}' in str(refusal.value)
    assert str(refusal.value).endswith(f'Give it another one: id="{better}". [handler-id]')
    declare(on, kind, id=better, **finalizer)


@pytest.mark.parametrize("kind", WITH_PROGRESS)
@pytest.mark.parametrize("fit", FIT)
def test_id_that_an_annotation_can_have_is_taken(kind: str, fit: str) -> None:
    """Kopf replaces what stands in names of functions, and shortens what is too long."""
    declare(finalizers_in(kopf.OperatorRegistry()).on, kind, id=fit)


def test_function_whose_name_will_not_do_is_refused_by_it() -> None:
    """Kopf gives it its name, or where it is written, for an id."""

    def _drop_backups(**_: Any) -> None: ...

    _drop_backups.__qualname__ = "_drop_backups"
    on = finalizers_in(kopf.OperatorRegistry()).on
    with pytest.raises(ConfigurationError, match=r'id "_drop_backups".*id="drop_backups"'):
        on.delete("things", finalizer="backups")(_drop_backups)
    with pytest.raises(ConfigurationError, match=r'id "lambda:.*\.py:\d+".*id="lambda-'):
        on.delete("things", finalizer="backups")(lambda **_: None)


def test_field_that_makes_the_id_unfit_is_refused_without_advice() -> None:
    """No other id would help there."""
    on = finalizers_in(kopf.OperatorRegistry()).on
    with pytest.raises(
        ConfigurationError, match=r'id "x/spec\.size_".*never again\. \[handler-id\]$'
    ):
        on.field("things", field="spec.size_", id="x")(fn)


@pytest.mark.parametrize("kind", ["event", "daemon", "timer"])
def test_handler_that_stores_nothing_may_have_any_id(kind: str) -> None:
    """Kopf keeps no progress of it."""
    declare(finalizers_in(kopf.OperatorRegistry()).on, kind, id="_x y", finalizer="backups")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "No annotation" in record.getMessage()
    ]


def test_id_of_a_kopf_handler_that_will_not_do_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the start, and when a startup handler has declared another: it may go well."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    finalizers = finalizers_in(registry)
    finalizers.on.create("things", finalizer="backups")(fn)
    kopf.on.create("things", id="_one", registry=registry)(fn)
    kopf.on.event("things", id="_seen", registry=registry)(fn)
    kopf.daemon("things", id="_daemon", registry=registry)(fn)
    finalizers.apply(settings)
    assert [word.split('"')[1] for word in warnings_of(caplog)] == ["_one"]
    kopf.on.delete("things", id="_two", registry=registry)(fn)
    for _ in range(2):
        cycle(registry, settings, THING)
    assert [word.split('"')[1] for word in warnings_of(caplog)] == ["_one", "_two"]
    assert warnings_of(caplog)[1].endswith('Give it another one: id="two". [handler-id]')


@pytest.mark.parametrize(
    ("storage", "is_warned"),
    [
        (kopf.AnnotationsProgressStorage(prefix="mine.org"), True),
        (kopf.SmartProgressStorage(prefix="mine.org"), True),
        (kopf.StatusProgressStorage(), False),
    ],
)
def test_operator_with_a_storage_of_its_own_is_warned_where_that_is_annotations(
    storage: kopf.ProgressStorage, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused otherwise may be stored elsewhere, which is seen at the start."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.persistence.progress_storage = storage
    finalizers = finalizers_in(registry, storages=False)
    finalizers.on.delete("things", id="_drop", finalizer="backups")(fn)
    finalizers.apply(settings)
    assert len(warnings_of(caplog)) == is_warned


def test_sub_handler_whose_id_will_not_do_is_warned_of_when_it_comes_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is known only then; and it is warned of once."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    finalizers = finalizers_in(registry)

    @finalizers.on.create("things", id="create")
    def create(**_: Any) -> None:
        kopf.subhandler(id="good")(fn)
        kopf.subhandler(id="bad_")(fn)

    finalizers.apply(settings)
    assert not warnings_of(caplog)
    for _ in range(2):
        cycle(registry, settings, THING)
    assert [word.split('"')[1] for word in warnings_of(caplog)] == ["create/bad_"]
