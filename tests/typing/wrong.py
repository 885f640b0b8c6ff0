"""Usage that type checkers must refuse: never run, but checked by `tests/typing/test_typing.py`.

Each `type: ignore` names the error that it stands for. A checker that no longer finds the error
complains that the comment is unused, which is an error too. "Taken by" names one that takes the
line for right: ty knows no keyword arguments in a `TypedDict`, and pyright takes `**kwargs: Any` of
what Kopf calls for an argument of any name.
"""

from typing import Any

import kopf

import kopf_finalizers
from kopf_finalizers import (
    Finalizers,
    OperatorIdentity,
    add_finalizer,
    configure,
    has_finalizer,
    json_patch,
    merge_patch,
)
from kopf_finalizers import _on as decorators

finalizers = configure("mycompany.com", "db-operator")

configure()  # type: ignore[call-overload]
configure("mycompany.com")  # type: ignore[call-overload]
configure(finalizer=None)  # type: ignore[call-overload]
configure("mycompany.com", finalizer="mycompany.com/{name}")  # type: ignore[call-overload]
configure("mycompany.com", "db", finalizer="mycompany.com/db")  # type: ignore[call-overload]
configure("mycompany.com", "db", former="mycompany.com/old")  # type: ignore[call-overload]
configure("a.io", "db", former_dedicated={"x": "a.io/y"})  # type: ignore[dict-item]
configure("mycompany.com", "db", rollout="recognize")  # type: ignore[call-overload]
configure("mycompany.com", "db", settings={})  # type: ignore[call-overload]
configure(7, "db-operator")  # type: ignore[call-overload]
configure("mycompany.com", "db", finalizer=True)  # type: ignore[call-overload]
configure("mycompany.com", "db", name="x")  # type: ignore[call-overload]
configure("mycompany.com", "db", "three")  # type: ignore[call-overload]
configure("mycompany.com", operater="db")  # type: ignore[call-overload]
configure("mycompany.com", "db", registry=kopf)  # type: ignore[call-overload]

Finalizers("mycompany.com/db")  # type: ignore[arg-type]
Finalizers(finalizers.identity, False)  # type: ignore[call-arg]

finalizers.name = "mycompany.com/x"  # type: ignore[misc]
finalizers.add(None)  # type: ignore[arg-type]
finalizers.remove(kopf.Patch(), 7)  # type: ignore[arg-type]
finalizers.name_for(None)  # type: ignore[arg-type]
finalizers.apply({})  # type: ignore[arg-type]
finalizers.on.index("things")  # type: ignore[attr-defined]
print(finalizers.on.guarded)  # type: ignore[attr-defined]

# Misspelt names

kopf_finalizers.confgure("mycompany.com", "db")  # type: ignore[attr-defined]
print(kopf_finalizers.ensure_finaliser)  # type: ignore[attr-defined]
decorators.delete("things")  # type: ignore[attr-defined]

OperatorIdentity.from_template("mycompany.com/{name}", "db")  # type: ignore[call-arg]


@finalizers.on.create("things", finalizer=7)  # type: ignore[arg-type]
def not_a_finalizer(**_: Any) -> None: ...


@finalizers.on.create("things", finaliser="backups")  # type: ignore[call-arg]  # taken by ty
def misspelt(**_: Any) -> None: ...


@finalizers.on.create("things", optional=True)  # type: ignore[call-arg]  # taken by ty
def not_a_cleanup(**_: Any) -> None: ...


@finalizers.on.delete("things", deleted=True)  # type: ignore[call-arg]  # taken by ty
def not_resuming(**_: Any) -> None: ...


@finalizers.on.event("things", retries=3)  # type: ignore[call-arg]  # taken by ty
def not_retried(**_: Any) -> None: ...


@finalizers.on.create("things", old=1)  # type: ignore[call-arg]  # taken by ty
def not_an_update(**_: Any) -> None: ...


@finalizers.on.daemon("things", interval=3)  # type: ignore[call-arg]  # taken by ty
async def not_a_timer(**_: Any) -> None: ...


@finalizers.on.timer("things", interval="3")  # type: ignore[arg-type]
def not_seconds(**_: Any) -> None: ...


@finalizers.on.delete("things", finalizer="x", on_timeout="drop")  # type: ignore[arg-type]
def no_decision(**_: Any) -> None: ...


@finalizers.on.delete("things", labels="a=b")  # type: ignore[arg-type]
def not_labels(**_: Any) -> None: ...


@finalizers.on.delete("a", "b", "c", "d")  # type: ignore[call-arg]
def too_many(**_: Any) -> None: ...


@finalizers.on.delete(arg1="things")  # type: ignore[call-arg]  # taken by ty
def by_keyword(**_: Any) -> None: ...


# Handlers and filters, as Kopf calls them

finalizers.on.delete("things")(7)  # type: ignore[type-var]


@finalizers.on.create("things")  # type: ignore[type-var]
def without_the_rest(spec: kopf.Spec) -> None: ...


@finalizers.on.create("things")  # type: ignore[type-var]
def without_the_rest_of_all(
    name: str, namespace: str | None, body: kopf.Body, patch: kopf.Patch, diff: kopf.Diff
) -> None: ...


@finalizers.on.delete("things", finalizer="backups")  # type: ignore[type-var]
async def other_types(spec: str, **_: Any) -> None: ...


@finalizers.on.event("things")  # type: ignore[type-var]  # taken by pyright
def of_no_change(diff: kopf.Diff, **_: Any) -> None: ...


@finalizers.on.event("things")  # type: ignore[type-var]  # taken by pyright
def never_tried_again(retry: int, **_: Any) -> None: ...


@finalizers.on.daemon("things")  # type: ignore[type-var]  # taken by pyright
async def never_called_for_a_reason(reason: str, **_: Any) -> None: ...


@finalizers.on.timer("things", interval=3)  # type: ignore[type-var]  # taken by pyright
def never_stopped(stopped: kopf.DaemonStopped, **_: Any) -> None: ...


class Operator:
    @finalizers.on.update("things")  # type: ignore[type-var]  # taken by pyright
    def method(self, name: str, **_: Any) -> None: ...


def no_answer(spec: kopf.Spec, **_: Any) -> str:
    return "yes"


def no_rest(spec: kopf.Spec) -> bool:
    return True


async def too_late(spec: kopf.Spec, **_: Any) -> bool:
    return True


def no_value(spec: kopf.Spec, **_: Any) -> bool:
    return True


finalizers.on.create("things", when=no_answer)  # type: ignore[arg-type]
finalizers.on.update("things", when=no_rest)  # type: ignore[arg-type]
finalizers.on.event("things", when=too_late)  # type: ignore[arg-type]
finalizers.on.daemon("things", when=True)  # type: ignore[arg-type]
finalizers.on.delete("things", labels={"a": no_rest})  # type: ignore[dict-item]
finalizers.on.delete("things", annotations={"a": no_value})  # type: ignore[dict-item]
finalizers.on.resume("things", field="spec.a", value=no_rest)  # type: ignore[arg-type]
finalizers.on.field("things", field="spec.a", old=too_late)  # type: ignore[arg-type]
finalizers.on.timer("things", initial_delay=no_answer)  # type: ignore[arg-type]

finalizers.on.daemon("things", finalizer=None)  # type: ignore[arg-type]
finalizers.on.timer("things", finalizer=None)  # type: ignore[arg-type]


@finalizers.on.delete("things", finalizer="backups")
def cleanup(name: str, **_: Any) -> int:
    return len(name)


cleanup()  # type: ignore[call-arg]
cleanup(7)  # type: ignore[arg-type]
length: str = cleanup("t")  # type: ignore[assignment]

add_finalizer({}, "mycompany.com/x")  # type: ignore[arg-type]
add_finalizer(kopf.Patch(), None)  # type: ignore[arg-type]
has_finalizer(["mycompany.com/x"], "mycompany.com/x")  # type: ignore[arg-type]
json_patch({})  # type: ignore[call-overload]
json_patch({}, add=None)  # type: ignore[call-overload]
json_patch({}, "mycompany.com/x")  # type: ignore[call-overload]
json_patch({}, add=["mycompany.com/x"])  # type: ignore[call-overload]
merge_patch({})  # type: ignore[call-overload]
merge_patch({}, replace="mycompany.com/x")  # type: ignore[call-overload]
