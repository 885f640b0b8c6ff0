"""An operator of databases that clean up in three ways; its finalizers are in the documentation.

kopf run examples/db_operator.py
"""

from typing import Any

import kopf
import kopf_finalizers

finalizers = kopf_finalizers.configure(domain="mycompany.com", operator="db-operator")


@finalizers.on.create("mycompany.com", "v1", "databases", finalizer="backups")
def start_backups(name: str, logger: kopf.Logger, **_: Any) -> None:
    """Begins the backups, which `drop_backups` ends."""
    logger.info(f"The backups of {name} are scheduled.")


@finalizers.on.delete(
    "mycompany.com",
    "v1",
    "databases",
    finalizer="backups",
    retries=10,
    leaves="the backups in the object store, which are paid for by the month",
)
def drop_backups(name: str, logger: kopf.Logger, **_: Any) -> None:
    """Drops the backups.

    A cleanup with a finalizer of its own.
    """
    logger.info(f"The backups of {name} are dropped.")


@finalizers.on.delete("mycompany.com", "v1", "databases", leaves="the database and its users")
def drop_database(name: str, logger: kopf.Logger, **_: Any) -> None:
    """Drops the database.

    A cleanup that the operator's own finalizer guards, as in Kopf.
    """
    logger.info(f"The database of {name} is dropped.")


@finalizers.on.daemon("mycompany.com", "v1", "databases")
async def watch_replicas(stopped: kopf.DaemonStopped, **_: Any) -> None:
    """Watches the replicas; Kopf stops it through the operator's own finalizer."""
    while not stopped:
        await stopped.wait(10)


@finalizers.on.event("mycompany.com", "v1", "reports", finalizer=None)
def count_reports(logger: kopf.Logger, **_: Any) -> None:
    """Reports are only watched: they carry no finalizer of this operator."""
    logger.info("A report has come.")
