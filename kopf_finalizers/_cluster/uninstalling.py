"""An operator taken out of a cluster, so that nothing hangs when it is gone.

There are two ways. Either its objects are deleted while it still runs, so that it does its
cleanups; or its finalizers are taken off objects that live on. What is being deleted already is
never released here: its cleanups are due, and are the operator's to do.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .._bodies import finalizers_of, is_being_deleted
from .access import Cluster, ClusterError, RefusedError
from .changing import Outcome, Releasing, Target, What, kept
from .discovery import Resource, Served, Unseen
from .listing import Metadata, Progress, Scope, look_at_all
from .records import KEPT_BESIDE, records_of
from .whose import Operator, Whose

_ATTEMPTS = 5


@dataclass(frozen=True)
class Own:
    """What on an object is an operator's own."""

    operator: Operator
    with_annotations: bool = False

    def finalizers(self, resource: Resource, metadata: Metadata) -> list[str]:
        """Its finalizers: those of today's handlers, dropped ones, and former names.

        Former names that another operator has, too, are left to that one.
        """
        key = (resource.group, resource.plural)
        return [
            name
            for name in dict.fromkeys(finalizers_of({"metadata": metadata}))
            if (whose := self.operator.whose(name, key)).is_own
            and not (whose is Whose.FORMER and self.operator.shares_former)
        ]

    def annotations(self, metadata: Metadata) -> list[str]:
        """Its records: all under its own prefix, and Kopf's own keys under the former one."""
        if not self.with_annotations:
            return []
        keys: Iterable[str] = metadata.get("annotations") or {}
        own = [key for key in keys if key.startswith(f"{self.operator.prefix}/")]
        former = self.operator.former_prefix
        if former is None or self.operator.shares_former:
            return own
        records = {f"{one.prefix}/{one.handler}" for one in records_of(metadata)}
        records |= {f"{former}/{name}" for name in KEPT_BESIDE}
        return own + [key for key in keys if key.startswith(f"{former}/") and key in records]


@dataclass
class Standing:
    """How the objects of one resource stand."""

    resource: Resource
    own: Own
    alive: int = 0
    being_deleted: int = 0
    with_own: int = 0
    with_others: int = 0
    targets: list[Target] = field(default_factory=list)
    """What is to be looked at again: all objects, or those with anything of the operator's own."""

    all_objects: bool = False

    def look(self, items: Iterable[Metadata]) -> None:
        """Count the objects of one page."""
        for metadata in items:
            is_going = is_being_deleted({"metadata": metadata})
            names = self.own.finalizers(self.resource, metadata)
            annotations = self.own.annotations(metadata)
            self.alive += not is_going
            self.being_deleted += is_going
            self.with_own += bool(names)
            self.with_others += bool(not names and finalizers_of({"metadata": metadata}))
            if self.all_objects or names or annotations:
                smaller = kept(metadata, annotations=annotations)
                self.targets.append(Target(self.resource, smaller))


def resources_of(operator: Operator, served: Served) -> list[Resource]:
    """What an operator handles, each resource once, in the version that the cluster prefers."""
    return [one for one in served.listed() if (one.group, one.plural) in operator.served]


def standings(
    cluster: Cluster,
    resources: Sequence[Resource],
    scope: Scope,
    own: Own,
    progress: Progress | None = None,
    *,
    all_objects: bool = False,
) -> tuple[list[Standing], list[Unseen]]:
    """How the objects of all these resources stand, and what could not be looked at."""

    def new(resource: Resource) -> Standing:
        return Standing(resource, own, all_objects=all_objects)

    found, unseen = list[Standing](), list[Unseen]()
    for _, account in look_at_all(cluster, resources, scope, new, progress):
        if isinstance(account, Unseen):
            unseen.append(account)
        else:
            found.append(account)
    return sorted(found, key=lambda one: one.resource.name), unseen


class Uninstalling:
    """Takes an operator off one object after another."""

    def __init__(self, cluster: Cluster, own: Own, *, dry_run: bool = False) -> None:
        self._cluster = cluster
        self._own = own
        self._dry_run = dry_run
        self._releasing = Releasing(cluster, dry_run=dry_run, living_only=True)

    def release(self, target: Target, stop: threading.Event) -> Outcome:
        """Take all that is the operator's own off one object that is alive."""
        if target.is_being_deleted:
            return Outcome(What.LEFT, "it is being deleted, and its cleanups are due")
        # The last one first: then those before it are still where they were shown.
        for name in reversed(self._own.finalizers(target.resource, target.metadata)):
            outcome = self._releasing.release(target, name, stop)
            if outcome.what is What.GONE or not outcome.what.is_well:
                return outcome
        return self._forget(target)

    def _forget(self, target: Target) -> Outcome:
        """Take its own annotations off, whatever else writes the object."""
        metadata = target.metadata
        for _ in range(_ATTEMPTS):
            keys = self._own.annotations(metadata)
            if not keys:
                return Outcome(What.RELEASED)
            operations = [
                {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
                *({"op": "remove", "path": f"/metadata/annotations/{_escaped(k)}"} for k in keys),
            ]
            try:
                self._releasing.patch(target, operations)
            except RefusedError as error:
                if error.status == 404:
                    return Outcome(What.GONE)
                if error.status not in (409, 422):
                    return Outcome(What.REFUSED, f"{error.status} {error.reason}: {error.words}")
                metadata, why = self._releasing.read(target), error.words
            except ClusterError as error:
                return Outcome(What.NOT_DONE, str(error))
            else:
                return Outcome(What.RELEASED)
            if metadata.get("uid") != target.metadata["uid"]:
                return Outcome(What.GONE)
        return Outcome(What.REFUSED, why)

    def delete(self, target: Target, stop: threading.Event) -> Outcome:  # noqa: ARG002 - as others
        """Ask for the deletion of one object, if it still is the one that was shown."""
        if target.is_being_deleted:
            return Outcome(What.DELETED)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": target.metadata["uid"]},
            "propagationPolicy": "Background",
            # Here, and not in the query: beside a body that is ignored (Kubernetes 1.20).
            **({"dryRun": ["All"]} if self._dry_run else {}),
        }
        try:
            self._cluster.request("DELETE", target.path, options)
        except RefusedError as error:
            # A conflict is about the uid: another object has come under the name.
            if error.status in (404, 409):
                return Outcome(What.GONE)
            return Outcome(What.REFUSED, f"{error.status} {error.reason}: {error.words}")
        except ClusterError as error:
            return Outcome(What.NOT_DONE, str(error))
        return Outcome(What.DELETED)


def _escaped(key: str) -> str:
    """A key in a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def remaining(found: Iterable[Standing], targets: Iterable[Target]) -> list[Target]:
    """Which of these objects are still there, as they are now."""
    uids = {one.metadata["uid"] for one in targets}
    return [one for each in found for one in each.targets if one.metadata["uid"] in uids]
