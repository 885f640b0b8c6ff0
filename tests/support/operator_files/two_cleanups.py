"""An operator with two cleanups, whose effects outlive the process: files in a folder."""

import os
from pathlib import Path
from typing import Any

import kopf

import kopf_finalizers

EFFECTS = Path(os.environ["EFFECTS"])
RESOURCE = (os.environ["GROUP"], "v1", os.environ["PLURAL"])

finalizers = kopf_finalizers.configure(domain="mycompany.com", operator="db-operator")


def note(what: str) -> None:
    with (EFFECTS / "calls").open("a") as calls:
        calls.write(f"{what}\n")


@finalizers.on.create(*RESOURCE)
def create_fn(**_: Any) -> None:
    note("create")
    (EFFECTS / "first").touch()
    (EFFECTS / "second").touch()


@finalizers.on.delete(*RESOURCE, finalizer="first")
def drop_first(**_: Any) -> None:
    note("first")
    (EFFECTS / "first").unlink(missing_ok=True)


@finalizers.on.delete(*RESOURCE, finalizer="second")
def drop_second(**_: Any) -> None:
    note("second")
    if not (EFFECTS / "may-go").exists():
        raise kopf.TemporaryError("not yet", delay=0.2)
    (EFFECTS / "second").unlink(missing_ok=True)
