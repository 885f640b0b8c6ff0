"""Objects with finalizers, and an operator of some of them, for the commands about a cluster."""

import json
from pathlib import Path
from typing import Any

from .servers import Api, Body, Resource

OURS = "mycompany.com/db-operator"
BACKUPS = f"{OURS}.backups"
THEIRS = "other.org/f"
OPERATOR = """
import kopf
import kopf_finalizers

finalizers = kopf_finalizers.configure("mycompany.com", "db-operator")
finalizers.declare("snapshots", "things.v1.example.com", waits_for="the snapshot to end")

@finalizers.on.delete("example.com", "v1", "things", finalizer="backups", leaves="the backups")
def drop_backups(**_):
    "Drops the backups."

@kopf.on.daemon("example.com", "v1", "things")
def watch(**_): ...
"""


def made(api: Api, resource: Resource, name: str, *finalizers: str, **metadata: Any) -> None:
    """An object that is alive."""
    body = resource.body(name, finalizers=list(finalizers), **metadata)
    api.create(resource.path, body).raise_for_status()


def stuck(api: Api, resource: Resource, name: str, *finalizers: str, **metadata: Any) -> None:
    """An object that is being deleted."""
    made(api, resource, name, *finalizers, **metadata)
    api.delete(resource.path_to(name)).raise_for_status()


def record(**fields: Any) -> str:
    """What Kopf keeps of a handler."""
    return json.dumps({"started": "2026-01-01T00:00:00.000000", **fields})


def operator_file(folder: Path) -> Path:
    """The operator."""
    path = folder / "db_operator.py"
    path.write_text(OPERATOR)
    return path


def page(*names: str, token: str = "") -> Body:
    """A page of a list, of objects that are held."""
    since = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [OURS]}
    items = [{"metadata": {"name": name, **since}} for name in names]
    return {"items": items, "metadata": {"continue": token}}
