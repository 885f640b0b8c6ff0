"""Usage that type checkers must refuse: never run, but checked by `tests/typing/test_typing.py`.

Each `type: ignore` names the error that it stands for. A checker that no longer finds the error
complains that the comment is unused, which is an error too.
"""

from typing import Any

import kopf

from kopf_finalizers import (
    Finalizers,
    OperatorIdentity,
    add_finalizer,
    configure,
    has_finalizer,
    json_patch,
    merge_patch,
)

finalizers = configure("mycompany.com", "db-operator")

configure(7, "db-operator")  # type: ignore[arg-type]
configure("mycompany.com", "db", finalizer=True)  # type: ignore[arg-type]
configure("mycompany.com", "db", name=7)  # type: ignore[arg-type]
configure("mycompany.com", "db", "three")  # type: ignore[call-arg]
configure("mycompany.com", operater="db")  # type: ignore[call-arg]
configure("mycompany.com", "db", registry=kopf)  # type: ignore[arg-type]

Finalizers("mycompany.com/db")  # type: ignore[arg-type]
Finalizers(finalizers.identity, False)  # type: ignore[call-arg]

finalizers.name = "mycompany.com/x"  # type: ignore[misc]
finalizers.add(None)  # type: ignore[arg-type]
finalizers.remove(kopf.Patch(), 7)  # type: ignore[arg-type]
finalizers.name_for(None)  # type: ignore[arg-type]
finalizers.apply({})  # type: ignore[arg-type]
finalizers.on.index("things")  # type: ignore[attr-defined]

OperatorIdentity.from_template("mycompany.com/{name}", "db")  # type: ignore[call-arg]


@finalizers.on.create("things", finalizer=7)  # type: ignore[arg-type]
def not_a_finalizer(**_: Any) -> None: ...


@finalizers.on.create("things", finaliser="backups")  # type: ignore[call-arg]
def misspelt(**_: Any) -> None: ...


@finalizers.on.create("things", optional=True)  # type: ignore[call-arg]
def not_a_cleanup(**_: Any) -> None: ...


@finalizers.on.delete("things", deleted=True)  # type: ignore[call-arg]
def not_resuming(**_: Any) -> None: ...


@finalizers.on.event("things", retries=3)  # type: ignore[call-arg]
def not_retried(**_: Any) -> None: ...


@finalizers.on.create("things", old=1)  # type: ignore[call-arg]
def not_an_update(**_: Any) -> None: ...


@finalizers.on.daemon("things", interval=3)  # type: ignore[call-arg]
async def not_a_timer(**_: Any) -> None: ...


@finalizers.on.timer("things", interval="3")  # type: ignore[arg-type]
def not_seconds(**_: Any) -> None: ...


@finalizers.on.delete("things", labels="a=b")  # type: ignore[arg-type]
def not_labels(**_: Any) -> None: ...


@finalizers.on.delete("a", "b", "c", "d")  # type: ignore[call-arg]
def too_many(**_: Any) -> None: ...


@finalizers.on.delete(arg1="things")  # type: ignore[call-arg]
def by_keyword(**_: Any) -> None: ...


finalizers.on.delete("things")(7)  # type: ignore[type-var]


@finalizers.on.delete("things", finalizer="backups")
def cleanup(name: str, **_: Any) -> int:
    return len(name)


cleanup()  # type: ignore[call-arg]
cleanup(7)  # type: ignore[arg-type]
length: str = cleanup("t")  # type: ignore[assignment]

add_finalizer({}, "mycompany.com/x")  # type: ignore[arg-type]
add_finalizer(kopf.Patch(), None)  # type: ignore[arg-type]
has_finalizer(["mycompany.com/x"], "mycompany.com/x")  # type: ignore[arg-type]
json_patch({}, "mycompany.com/x")  # type: ignore[call-arg]
json_patch({}, add=["mycompany.com/x"])  # type: ignore[arg-type]
merge_patch({}, replace="mycompany.com/x")  # type: ignore[call-arg]
