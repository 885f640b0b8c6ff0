"""Usage that type checkers must take: never run, but checked by `tests/typing/test_typing.py`.

Decorated functions keep their types, whatever decorates them; everything public has one.
"""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, assert_type

import kopf
import pydantic

import kopf_finalizers
from kopf_finalizers import (
    ConfigurationError,
    FinalizerName,
    Finalizers,
    InventoryEntry,
    OperatorIdentity,
    OperatorName,
    OrganisationDomain,
    Purpose,
    add_finalizer,
    configure,
    has_finalizer,
    json_patch,
    merge_patch,
    remove_finalizer,
)

# Names

identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
assert_type(identity.finalizer, str)
assert_type(identity.finalizer_for("backups"), str)
assert_type(identity.storage_prefix, str)
assert_type(identity.owns("mycompany.com/db-operator"), bool)
assert_type(identity.keep_finalizer, str | None)
assert_type(identity.domain, str)
assert_type(
    OperatorIdentity.from_template("mycompany.com/operator-{name}", name="db"), OperatorIdentity
)
assert_type(OperatorIdentity.from_template("mycompany.com/db"), OperatorIdentity)
assert_type(OperatorIdentity.checked(domain="mycompany.com", operator="db"), OperatorIdentity)


class OperatorSettings(pydantic.BaseModel):
    domain: OrganisationDomain
    operator: OperatorName = "db-operator"
    purpose: Purpose | None = None
    finalizer: FinalizerName = "mycompany.com/db-operator"


settings_model = OperatorSettings(domain="mycompany.com")
assert_type(settings_model.domain, str)
assert_type(settings_model.purpose, str | None)

error: ValueError = ConfigurationError("wrong use")

# configure, in all its forms

finalizers = configure(domain="mycompany.com", operator="db-operator")
assert_type(finalizers, Finalizers)
assert_type(configure("mycompany.com", "db-operator"), Finalizers)
assert_type(configure(finalizer="mycompany.com/operator-{name}", name="db"), Finalizers)
assert_type(configure(finalizer="mycompany.com/db"), Finalizers)
assert_type(configure(domain="mycompany.com", operator="db", finalizer=None), Finalizers)
assert_type(kopf_finalizers.configure("a.io", "b", registry=kopf.OperatorRegistry()), Finalizers)
assert_type(configure("mycompany.com", "db", storages=False), Finalizers)
assert_type(configure("a.io", "b", settings=kopf.OperatorSettings()), Finalizers)
assert_type(configure("a.io", "b", keep_finalizer="b.io", strict=True), Finalizers)
assert_type(
    configure("a.io", "b", former=["a.io/c"], former_dedicated={"x": ("a.io/y",)}), Finalizers
)

# Finalizers

assert_type(Finalizers(identity), Finalizers)
assert_type(finalizers.identity, OperatorIdentity)
assert_type(finalizers.name, str)
assert_type(finalizers.written, str)
assert_type(finalizers.is_record("a.io/b"), bool)
assert_type(finalizers.name_for("backups"), str)
assert_type(finalizers.inventory(), list[InventoryEntry])
assert_type(finalizers.former, tuple[str, ...])
assert_type(finalizers.apply(kopf.OperatorSettings()), None)

# Handlers keep their types


@finalizers.on.create("mygroup", "v1", "myresources", finalizer="mycompany.com/my-finalizer")
def create_fn(spec: kopf.Spec, name: str, **_: Any) -> str:
    return name


assert_type(create_fn(kopf.Body({}).spec, "t"), str)
create_typed: Callable[[kopf.Spec, str], str] = create_fn


@finalizers.on.delete("mygroup/v1", "myresources", finalizer="backups", retries=3, backoff=1.5)
async def drop_backups(name: str, **_: Any) -> int:
    return len(name)


async def calls_it() -> None:
    assert_type(await drop_backups("t"), int)


@finalizers.on.create("myresources", finalizer="backups", labels={"a": kopf.PRESENT})
@finalizers.on.resume("myresources", deleted=True)
@finalizers.on.update("myresources", field="spec.size", old=1, new=2)
@finalizers.on.field("myresources", field=("spec", "size"), finalizer="backups")
def stacked(old: int | None, new: int | None, **_: Any) -> dict[str, int]:
    return {}


assert_type(stacked(1, None), dict[str, int])


def only_big(spec: kopf.Spec, **_: Any) -> bool:
    return bool(spec.get("size", 0) > 3)


@finalizers.on.event(kopf.EVERYTHING, finalizer=None, when=only_big)
def watch_fn(event: Mapping[str, Any], **_: Any) -> None: ...


@finalizers.on.event(lambda resource: resource.group == "mygroup", id="x", param={"a": 1})
def watch_all(**_: Any) -> None: ...


def at_first(name: str, **_: Any) -> float:
    return len(name) / 2


@finalizers.on.daemon("myresources", cancellation_timeout=3, initial_delay=1.5)
async def daemon_fn(stopped: kopf.DaemonStopped, **_: Any) -> None: ...


@finalizers.on.timer("myresources", interval=60, idle=3, sharp=True, finalizer="clock")
def timer_fn(**_: Any) -> float:
    return 1.5


assert_type(timer_fn(), float)


@finalizers.on.timer("myresources", interval=60, initial_delay=at_first)
def counting(param: int, retry: int, started: datetime.datetime, **_: Any) -> int:
    return param + retry


assert_type(counting(1, 2, datetime.datetime.now()), int)


@finalizers.on.update("myresources", field="spec.size", value=3, old=None, new=kopf.PRESENT)
@finalizers.on.create("myresources", field="spec.sizes", value=[1, 2], when=kopf.not_(only_big))
@finalizers.on.resume(
    "myresources", field="spec.tags", value={"a": "b"}, when=kopf.all_([only_big])
)
def field_fn(old: list[int], new: list[int], diff: kopf.Diff, reason: str, **_: Any) -> None: ...


def is_d(value: Any, **_: Any) -> bool:
    return bool(value == "d")


@finalizers.on.delete(
    group="mygroup",
    version="v1",
    plural="myresources",
    finalizer="my-purpose",
    leaves="rows in a table",
    release_after=3600,
    on_timeout="release",
    optional=False,
    errors=kopf.ErrorsMode.PERMANENT,
    timeout=3.5,
    annotations={"a": "b", "c": is_d},
    field="spec.size",
    value=is_d,
    registry=kopf.OperatorRegistry(),
)
@kopf.on.resume("myresources")
def with_everything(**_: Any) -> None: ...


class Methods:
    def method(self, name: str, **_: Any) -> str:
        return name

    @staticmethod
    @finalizers.on.create("myresources", finalizer="static")
    def static(name: str, **_: Any) -> str:
        return name


assert_type(Methods.static("t"), str)
assert_type(finalizers.on.create("myresources", finalizer="m")(Methods().method)("t"), str)

# Changes


def handler(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    finalizers.add(patch)
    finalizers.add(patch, "backups")
    finalizers.remove(patch, purpose="backups")
    add_finalizer(patch, finalizers.name_for("backups"))
    remove_finalizer(patch, "mycompany.com/my-finalizer")
    assert_type(has_finalizer(body, finalizers.name), bool)
    assert_type(has_finalizer(dict(body), finalizers.name), bool)
    assert_type(json_patch(body, add="mycompany.com/x"), list[dict[str, Any]])
    assert_type(json_patch({"metadata": {}}, add="a.io/x", remove="a.io/y"), list[dict[str, Any]])
    assert_type(merge_patch(body, remove="mycompany.com/x"), dict[str, Any])
