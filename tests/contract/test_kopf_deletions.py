"""What the library relies on in Kopf when objects are deleted."""

from typing import TYPE_CHECKING, Any

import kopf

from kopf_finalizers._kopf import cleanup_ids, is_kopfs_addition, is_kopfs_release

from ..support.kopf_cycles import RESOURCE, cycle

if TYPE_CHECKING:
    from ..support.servers import Body


def test_kopfs_release_is_known_by_its_function() -> None:
    """In the cycle in which Kopf takes its own finalizer off, and in no other."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    failures: list[Exception] = [kopf.TemporaryError("not yet", delay=1)]

    @kopf.on.delete("things", registry=registry)
    def drop(**_: Any) -> None:
        while failures:
            raise failures.pop()

    body: Body = {
        "metadata": {
            "name": "t",
            "uid": "1",
            "deletionTimestamp": "2030-01-01T00:00:00Z",
            "finalizers": [settings.persistence.finalizer],
        }
    }
    found = [
        [is_kopfs_release(fn) for fn in cycle(registry, settings, body).patch.fns] for _ in range(2)
    ]
    assert found == [[], [True]]


def test_kopfs_addition_is_known_by_its_function() -> None:
    """In the cycle in which Kopf puts its own finalizer on, and in no other."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    kopf.on.delete("things", registry=registry, id="drop")(lambda **_: None)
    body: Body = {"metadata": {"name": "t", "uid": "1"}}
    first = cycle(registry, settings, body)
    second = cycle(registry, settings, first.after())
    assert [is_kopfs_addition(fn) for fn in first.patch.fns] == [True]
    assert not any(map(is_kopfs_addition, second.patch.fns))


def test_cleanups_of_a_resource_are_known() -> None:
    """Those of Kopf's own decorators, and none of another resource."""
    registry = kopf.OperatorRegistry()
    for plural in ("things", "others"):
        for decorator in (kopf.on.create, kopf.on.delete, kopf.on.resume):
            name = f"{decorator.__name__}-{plural}"
            decorator(plural, registry=registry, id=name)(lambda **_: None)
    kopf.on.delete("things", registry=registry, id="sized", field="spec.size")(lambda **_: None)
    assert cleanup_ids(registry, RESOURCE) == {"delete-things", "sized/spec.size"}
