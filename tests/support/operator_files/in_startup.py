"""An operator that says who it is where Kopf's users change settings: in a startup handler."""

import os
from typing import Any

import kopf

import kopf_finalizers

RESOURCE = (os.environ["GROUP"], "v1", os.environ["PLURAL"])


@kopf.on.startup()
def change_settings(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    handed: dict[str, Any] = {} if os.environ.get("LEFT_OUT") else {"settings": settings}
    finalizers = kopf_finalizers.configure("mycompany.com", "db-operator", **handed)

    @finalizers.on.delete(*RESOURCE, finalizer="backups")
    def drop_backups(logger: kopf.Logger, **_: Any) -> None:
        logger.info("The backups are dropped.")


@kopf.on.create(*RESOURCE)
def create_fn(**_: Any) -> None: ...


@kopf.on.delete(*RESOURCE)
def delete_fn(**_: Any) -> None: ...
