"""The objects of an operator: from a cluster, or from what kubectl has printed."""

from collections.abc import Sequence
from typing import Any

from .._cluster.access import Cluster
from .._cluster.discovery import Resource, Unseen
from .._cluster.holders import bodies_in
from .._cluster.listing import Progress, Scope, look_at_all
from .carried import Carried
from .releases import Today
from .values import Storage

SAMPLE = 20
"""How many objects of a resource are looked at as a whole: for their status and their parts."""


def status_fields(today: Today) -> list[Sequence[str]]:
    """The fields of a status where an operator with these storages keeps records."""
    storages = [one for one in (today.progress, today.diffbase) if isinstance(one, Storage)]
    parts = [part for one in storages for part in one.parts]
    return list(dict.fromkeys(tuple(one.field) for one in parts if hasattr(one, "field")))


def carried_by(
    cluster: Cluster,
    resources: Sequence[Resource],
    scope: Scope,
    fields: Sequence[Sequence[str]],
    progress: Progress,
) -> tuple[list[Carried], list[Unseen]]:
    """What the objects of a cluster carry, and what could not be looked at."""

    def new(resource: Resource) -> Carried:
        path = resource.path(scope.namespace)
        told = cluster.get(path, limit=SAMPLE, labelSelector=scope.selector)
        bodies = told.get("items") or []
        account = Carried(resource.name, frozenset(key for one in bodies for key in one))
        for one in bodies:
            account.look_at_status(one, fields)
        return account

    found, unseen = list[Carried](), list[Unseen]()
    for _, account in look_at_all(cluster, resources, scope, new, progress):
        if isinstance(account, Unseen):
            unseen.append(account)
        else:
            found.append(account)
    return sorted(found, key=lambda one: one.resource), unseen


def carried_in(told: Any, fields: Sequence[Sequence[str]]) -> list[Carried]:
    """What the objects carry in what `kubectl get … -o json` printed.

    Raises:
        ClusterError: There are none in it.
    """
    found = dict[str, Carried]()
    for resource, body in bodies_in(told):
        account = found.setdefault(resource, Carried(resource))
        account.parts = frozenset(account.parts) | body.keys()
        account.look([body["metadata"]])
        account.look_at_status(body, fields)
    return sorted(found.values(), key=lambda one: one.resource)
