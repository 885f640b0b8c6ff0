"""The operator of the lifecycle benchmark, in the variant that VARIANT names."""

import os
from collections.abc import Callable
from typing import Any

import kopf

import kopf_finalizers

VARIANT = os.environ["VARIANT"]
RESOURCE = (os.environ["GROUP"], "v1", os.environ["PLURAL"])


async def handler(**_: Any) -> None: ...


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    if VARIANT.startswith("plain"):
        settings.persistence.finalizer = "mycompany.com/plain"


def each(decorator: Callable[..., Any], *finalizers: str) -> None:
    for number, name in enumerate(finalizers):
        decorator(*RESOURCE, id=f"{decorator.__name__}-{number}", finalizer=name)(handler)


match VARIANT:
    case "plain":
        kopf.on.create(*RESOURCE)(handler)
        kopf.on.delete(*RESOURCE)(handler)
    case "plain, 3 cleanups":
        kopf.on.create(*RESOURCE)(handler)
        for number in range(3):
            kopf.on.delete(*RESOURCE, id=f"delete-{number}")(handler)
    case "library":
        on = kopf_finalizers.configure("mycompany.com", "library").on
        on.create(*RESOURCE)(handler)
        on.delete(*RESOURCE)(handler)
    case "library, 3 dedicated finalizers":
        on = kopf_finalizers.configure("mycompany.com", "library").on
        on.create(*RESOURCE, finalizer="database")(handler)
        on.update(*RESOURCE, finalizer="audit")(handler)
        on.delete(*RESOURCE, finalizer="backups")(handler)
    case "library, 3 cleanups":
        on = kopf_finalizers.configure("mycompany.com", "library").on
        on.create(*RESOURCE)(handler)
        each(on.delete, "database", "audit", "backups")
    case _:
        raise ValueError(VARIANT)
