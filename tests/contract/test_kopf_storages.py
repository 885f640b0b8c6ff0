"""What the library relies on in Kopf's storages, and what becomes of asynchronous ones."""

import inspect
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity
from kopf_finalizers._kopf import answered, parts_on_object

from ..support.kopf_cycles import cycle

STORAGES: list[Any] = [
    kopf.AnnotationsProgressStorage(prefix="a.org"),
    kopf.StatusProgressStorage(name="a"),
    kopf.SmartProgressStorage(prefix="a.org", name="a"),
    kopf.AnnotationsDiffBaseStorage(prefix="a.org"),
    kopf.StatusDiffBaseStorage(name="a"),
    kopf.MultiDiffBaseStorage([kopf.StatusDiffBaseStorage(), kopf.AnnotationsDiffBaseStorage()]),
]
KEY = cast("kopf.HandlerId", "fn")


def methods_of(storage: type[Any]) -> set[str]:
    members = inspect.getmembers(storage, inspect.isfunction)
    return {name for name, _ in members if not name.startswith(("_", "make_", "mark_", "remove_"))}


def test_storages_have_the_methods_that_the_library_implements() -> None:
    """A new one, to erase say, would pass the library's own storages by."""
    assert methods_of(kopf.ProgressStorage) == {
        "fetch", "store", "purge", "touch", "clear", "flush",
    }  # fmt: skip
    assert methods_of(kopf.DiffBaseStorage) == {"build", "fetch", "store"}


@pytest.mark.parametrize("storage", STORAGES, ids=lambda it: type(it).__name__)
def test_storages_answer_at_once(storage: Any) -> None:
    """In a branch of Kopf their methods are coroutine functions."""
    for name in methods_of(type(storage)):
        assert not inspect.iscoroutinefunction(getattr(storage, name))


@pytest.mark.parametrize("storage", STORAGES, ids=lambda it: type(it).__name__)
def test_what_a_storage_writes_on_a_bare_object_tells_where_its_records_are(storage: Any) -> None:
    """Wherever it reads them from: nothing else of them would be left on the object."""
    bare = kopf.Body({"metadata": {"name": "t"}})
    parts, patch = parts_on_object(storage), kopf.Patch()
    for part in parts:
        if isinstance(part, kopf.DiffBaseStorage):
            part.store(body=bare, patch=patch, essence=kopf.BodyEssence())
        else:
            part.store(key=KEY, record=kopf.ProgressRecord(), body=bare, patch=patch)
    written = cast("Any", {"metadata": {"name": "t"}, **patch})
    found = (
        storage.fetch(body=kopf.Body(written))
        if isinstance(storage, kopf.DiffBaseStorage)
        else storage.fetch(key=KEY, body=kopf.Body(written))
    )
    assert found == {}
    assert storage in parts or len(parts) == 2


def test_storages_that_are_none_of_kopfs_are_never_asked_what_they_would_write() -> None:
    """They might write it."""

    class InAFile(kopf.DiffBaseStorage):
        def fetch(self, **_: Any) -> Any: ...
        def store(self, **_: Any) -> None: ...

    assert parts_on_object(InAFile()) == []


def test_a_purge_takes_back_what_the_same_patch_has_set() -> None:
    """That is how a handler that ends at once costs no annotation."""
    storage = kopf.AnnotationsProgressStorage(prefix="kopf.a.org")
    body, patch = kopf.Body({"metadata": {"name": "t"}}), kopf.Patch()
    storage.store(key=KEY, record=kopf.ProgressRecord(retries=1), body=body, patch=patch)
    assert patch
    storage.purge(key=KEY, body=body, patch=patch)
    assert not patch


# Asynchronous storages


class Slow(kopf.AnnotationsProgressStorage):
    """As storages are in a branch of Kopf."""

    async def fetch(self, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().fetch(**kwargs)


def test_an_answer_that_has_to_be_waited_for_is_refused_in_words() -> None:
    """It is never taken for a record, and Python does not complain of it."""
    assert answered({"retries": 1}) == {"retries": 1}
    assert answered(None) is None
    body = kopf.Body({"metadata": {"name": "t"}})
    with pytest.raises(ConfigurationError, match="A storage of this operator is asynchronous"):
        answered(cast("Any", Slow(prefix="a.org")).fetch(key=KEY, body=body))

    class Later:
        def __await__(self) -> Any: ...

    with pytest.raises(ConfigurationError, match="whose methods are plain functions"):
        answered(Later())


def test_an_operator_whose_kopf_has_asynchronous_storages_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where records move, it is asked of storages of Kopf's own."""
    monkeypatch.setattr(kopf.AnnotationsProgressStorage, "fetch", Slow.fetch)
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
    kopf.on.create("things", registry=registry, id="create")(lambda **_: None)
    former: Any = ["kopf.zalando.org/KopfFinalizerMarker"]
    Finalizers(identity, registry=registry, former=former).apply(settings)
    with pytest.raises(ConfigurationError, match="look for a newer kopf-finalizers"):
        cycle(registry, settings, {"metadata": {"name": "t", "annotations": {"a.b/c": "d"}}})


def test_an_operators_own_asynchronous_storage_is_refused_where_it_is_asked() -> None:
    """Dedicated finalizers need its answers at once; without them Kopf alone asks it."""
    identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.persistence.progress_storage = Slow(prefix="a.org")
    finalizers = Finalizers(identity, registry=registry, storages=False)
    finalizers.on.delete("things", finalizer="backups", id="backups")(lambda **_: None)
    finalizers.apply(settings)
    metadata = {"name": "t", "finalizers": [finalizers.name, finalizers.name_for("backups")]}
    with pytest.raises(ConfigurationError, match="A storage of this operator is asynchronous"):
        cycle(registry, settings, {"metadata": {**metadata, "deletionTimestamp": "2030-01-01"}})


@pytest.mark.parametrize("owner", ["Deployment", "Thing"])
@pytest.mark.parametrize("kind", ["Thing", "Deployment", "Pod", "StatefulSet", None])
def test_keys_are_marked_on_replica_sets_alone(kind: str | None, owner: str) -> None:
    """On other objects the library knows a key without asking for each of them."""
    storage = kopf.AnnotationsProgressStorage(prefix="a.org", v1=False)
    raw: Any = {"kind": kind, "metadata": {"ownerReferences": [{"kind": owner}]}}
    assert storage.make_keys("fn", body=kopf.Body(raw)) == storage.make_keys("fn")
