"""Lambdas as filters and as handlers, whose arguments have no types: never run.

They stand apart from `api.py`: in its strict mode pyright complains of every lambda with `**_`.
"""

import kopf

from kopf_finalizers import configure

finalizers = configure("mycompany.com", "db-operator")
on = finalizers.on

on.delete("things", finalizer="x")(lambda name, **_: name.upper())
on.event("things", when=lambda spec, **_: spec.get("size") == 1)(lambda **_: None)
on.create("things", when=lambda namespace, spec, memo, **_: bool(namespace and spec["size"]))
on.update("things", when=kopf.all_([kopf.not_(lambda **_: True)]))
on.resume("things", labels={"a": lambda value, **_: value == "b"}, annotations={"a": kopf.ABSENT})
on.field(
    "things", field="spec.size", value=lambda value, **_: value > 3, old=lambda value, **_: True
)
on.timer("things", interval=3, initial_delay=lambda body, **_: len(body["metadata"]["name"]))
