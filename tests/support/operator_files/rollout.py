"""An operator in each release of a rename: STAGE says which. Its effects outlive the process."""

import json
import os
from pathlib import Path
from typing import Any

import kopf

import kopf_finalizers

CALLS = Path(os.environ["EFFECTS"]) / "calls"
RESOURCE = (os.environ["GROUP"], "v1", os.environ["PLURAL"])
STAGE: Any = os.environ["STAGE"]
FORMER = json.loads(os.environ.get("FORMER", '["kopf.zalando.org/KopfFinalizerMarker"]'))
MORE = json.loads(os.environ.get("MORE", "{}"))

if STAGE in ("recognise", "switch"):
    kopf_finalizers.configure("mycompany.com", "db-operator", former=FORMER, rollout=STAGE, **MORE)
elif STAGE == "done":
    kopf_finalizers.configure("mycompany.com", "db-operator")
elif "former_storage_prefix" in MORE:

    @kopf.on.startup()
    def own_names(settings: kopf.OperatorSettings, **_: Any) -> None:
        prefix = MORE["former_storage_prefix"]
        settings.persistence.finalizer = FORMER[0]
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix)


def note(what: str, uid: str) -> None:
    with CALLS.open("a") as calls:
        calls.write(f"{what} {uid}\n")


@kopf.on.create(*RESOURCE)
def create_fn(uid: str, spec: kopf.Spec, retry: int, **_: Any) -> None:
    if retry < spec.get("failures", 0):
        raise kopf.TemporaryError("busy", delay=0.1)
    note("create", uid)


@kopf.on.update(*RESOURCE)
def update_fn(uid: str, spec: kopf.Spec, retry: int, **_: Any) -> None:
    if retry < spec.get("failures", 0):
        raise kopf.TemporaryError("busy", delay=0.1)
    note("update", uid)


@kopf.on.delete(*RESOURCE)
def delete_fn(uid: str, spec: kopf.Spec, retry: int, **_: Any) -> None:
    if retry < spec.get("failures", 0):
        raise kopf.TemporaryError("busy", delay=0.1)
    note("cleanup", uid)
