"""Who holds the objects of a cluster: counted by finalizer, or one object at a time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .._bodies import finalizers_of, is_being_deleted
from .access import ClusterError
from .ages import read_time
from .discovery import Resource
from .listing import Metadata
from .records import Record, prefixes_of, records_of
from .whose import Operator, Whose, owner_of

FORMER_RECORDS = "former records"
OWN_RECORDS = "own records only"


@dataclass(frozen=True)
class Question:
    """What is asked of each object.

    Attributes:
        now: The present.
        stuck_for: How long an object must have been held to be counted.
        operator: Whose names are told apart, on living objects too.
        only: Which of these are counted; all where it is empty.
        with_objects: Whether to say which objects they are.
    """

    now: datetime
    stuck_for: timedelta = timedelta()
    operator: Operator | None = None
    only: frozenset[str] = frozenset()
    with_objects: bool = False

    def names_on(self, key: tuple[str, str] | None, metadata: Metadata) -> dict[str, str]:
        """What on this object is to be counted, and whose it is."""
        body = {"metadata": metadata}
        names = list(dict.fromkeys(finalizers_of(body)))
        operator = self.operator
        if operator is None:
            return dict.fromkeys(names, "") if self._is_stuck(metadata) else {}
        found = dict[str, str]()
        stuck = self._is_stuck(metadata)
        for name in names:
            whose = operator.whose(name, key)
            # On a living object one's own are of interest, on one being deleted everybody's.
            if stuck or (whose.is_own and not is_being_deleted(body)):
                found[name] = str(whose)
        if stuck or not is_being_deleted(body):
            found |= _records_on(metadata, operator)
        if self.only:
            found = {name: whose for name, whose in found.items() if whose in self.only}
        return found

    def _is_stuck(self, metadata: Metadata) -> bool:
        since = read_time(metadata.get("deletionTimestamp"))
        return since is not None and self.now - since >= self.stuck_for


def _records_on(metadata: Metadata, operator: Operator) -> dict[str, str]:
    """Records where they were before a rename, or only where they are after it."""
    if operator.former_prefix is None:
        return {}
    prefixes = {key.rpartition("/")[0] for key in metadata.get("annotations") or {}}
    if operator.former_prefix in prefixes:
        return {f"{operator.former_prefix}/…": FORMER_RECORDS}
    if operator.prefix in prefixes:
        return {f"{operator.prefix}/…": OWN_RECORDS}
    return {}


@dataclass
class Tally:
    """The objects of one resource that carry one finalizer."""

    alive: int = 0
    being_deleted: int = 0
    oldest: datetime | None = None
    example: str = ""
    objects: list[Metadata] = field(default_factory=list)

    def add(self, metadata: Metadata, *, keep: bool) -> None:
        since = read_time(metadata.get("deletionTimestamp"))
        self.alive += since is None
        self.being_deleted += since is not None
        if not self.example or (since and (self.oldest is None or since < self.oldest)):
            self.oldest, self.example = since or self.oldest, full_name(metadata)
        if keep:
            self.objects.append(
                {key: metadata[key] for key in ("namespace", "name") if metadata.get(key)}
            )


class Tallies:
    """What the objects of one resource carry."""

    def __init__(self, resource: Resource, question: Question) -> None:
        self.resource = resource
        self.by_name = dict[tuple[str, str], Tally]()
        self._question = question

    def look(self, items: Iterable[Metadata]) -> None:
        """Count the objects of one page."""
        key = (self.resource.group, self.resource.plural)
        for metadata in items:
            for name, whose in self._question.names_on(key, metadata).items():
                tally = self.by_name.setdefault((name, whose), Tally())
                tally.add(metadata, keep=self._question.with_objects)


@dataclass(frozen=True)
class Row:
    """One finalizer, or one place of records, in all resources."""

    name: str
    whose: str
    by_resource: Mapping[str, Tally]

    @property
    def alive(self) -> int:
        return sum(one.alive for one in self.by_resource.values())

    @property
    def being_deleted(self) -> int:
        return sum(one.being_deleted for one in self.by_resource.values())

    @property
    def oldest(self) -> datetime | None:
        return min((one.oldest for one in self.by_resource.values() if one.oldest), default=None)

    @property
    def example(self) -> str:
        """The object that is held longest; of living ones, any."""
        held = [(r, t) for r, t in self.by_resource.items() if t.oldest == self.oldest]
        resource, tally = held[0]
        return f"{resource}/{tally.example}"

    def as_json(self) -> dict[str, Any]:
        """The documented form."""
        return {
            "name": self.name,
            "whose": self.whose or None,
            "beingDeleted": self.being_deleted,
            "alive": self.alive,
            "oldest": self.oldest.isoformat() if self.oldest else None,
            "resources": {
                resource: {"beingDeleted": tally.being_deleted, "alive": tally.alive}
                for resource, tally in sorted(self.by_resource.items())
            },
        }


def rows_of(accounts: Iterable[Tallies]) -> list[Row]:
    """A row for each finalizer; the one that holds most objects first."""
    found = dict[tuple[str, str], dict[str, Tally]]()
    for account in accounts:
        for key, tally in account.by_name.items():
            found.setdefault(key, {})[account.resource.name] = tally
    rows = [Row(name, whose, tallies) for (name, whose), tallies in found.items()]
    return sorted(rows, key=lambda row: (-row.being_deleted, -row.alive, row.name))


@dataclass(frozen=True)
class Holder:
    """One finalizer of an object.

    Attributes:
        name: The finalizer.
        whose: Whose it is to the operator that was asked about; None without one.
        owner: Its owner in words; empty where nothing is known.
        waits_for: What it waits for; empty where that is not known.
        purposes: What its handlers are for, where they say so.
        leaves: What stays behind when it is released by hand, where they say so.
    """

    name: str
    whose: Whose | None
    owner: str
    waits_for: tuple[str, ...]
    purposes: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """One object: who holds it, and what Kopf operators have noted on it."""

    resource: str
    metadata: Metadata
    holders: tuple[Holder, ...]
    records: tuple[Record, ...]

    @property
    def since(self) -> datetime | None:
        """When its deletion was asked for."""
        return read_time(self.metadata.get("deletionTimestamp"))

    @property
    def is_held(self) -> bool:
        """Whether it would be gone but for its finalizers."""
        return self.since is not None and bool(self.holders)

    def as_json(self, now: datetime) -> dict[str, Any]:
        """The documented form."""
        return {
            "resource": self.resource,
            "namespace": self.metadata.get("namespace"),
            "name": self.metadata.get("name"),
            "uid": self.metadata.get("uid"),
            "deletionTimestamp": self.metadata.get("deletionTimestamp"),
            "finalizers": [
                {
                    "name": one.name,
                    "whose": one.whose and str(one.whose),
                    "owner": one.owner or None,
                    "waitsFor": list(one.waits_for),
                    "purposes": list(one.purposes),
                    "leaves": list(one.leaves),
                }
                for one in self.holders
            ],
            "records": [_record_as_json(one, now) for one in self.records],
        }


def _record_as_json(record: Record, now: datetime) -> dict[str, Any]:
    return {
        "prefix": record.prefix,
        "handler": record.handler,
        "purpose": record.purpose,
        "state": record.state(now),
        "attempts": record.retries,
        "started": record.started.isoformat() if record.started else None,
        "nextAttempt": record.delayed.isoformat() if record.delayed else None,
        "message": record.message,
        "subhandlers": list(record.subhandlers),
    }


def report_of(
    resource: str,
    metadata: Metadata,
    operator: Operator | None = None,
    key: tuple[str, str] | None = None,
) -> Report:
    """Who holds one object, as far as that is known."""
    prefixes = prefixes_of(metadata)
    holders = list[Holder]()
    for name in dict.fromkeys(finalizers_of({"metadata": metadata})):
        whose = operator.whose(name, key) if operator else Whose.OTHER
        waiting = operator.waiting(name, key) if operator else ()
        holders.append(
            Holder(
                name=name,
                whose=whose if operator else None,
                owner=owner_of(name, prefixes, operator, whose),
                waits_for=_each(one.waits_for for one in waiting),
                purposes=_each(one.purpose for one in waiting),
                leaves=_each(one.leaves for one in waiting),
            )
        )
    return Report(resource, metadata, tuple(holders), tuple(records_of(metadata)))


def _each(words: Iterable[str]) -> tuple[str, ...]:
    """What was said, and once."""
    return tuple(dict.fromkeys(one for one in words if one))


def full_name(metadata: Metadata) -> str:
    """As people write it: the namespace, if there is one, and the name."""
    return "/".join(str(metadata[key]) for key in ("namespace", "name") if metadata.get(key))


def reports_of_file(told: Any, operator: Operator | None) -> Sequence[Report]:
    """The objects in what `kubectl get … -o json` printed: one object, or a list of them.

    Raises:
        ClusterError: It is neither.
    """
    return [report_of(name, body["metadata"], operator) for name, body in bodies_in(told)]


def bodies_in(told: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects themselves, each with what its resource is called.

    Raises:
        ClusterError: There are none.
    """
    if isinstance(told, Mapping) and isinstance(told.get("items") or [], list) and "items" in told:
        bodies = told["items"] or []
    else:
        bodies = [told]
    found = list[tuple[str, Mapping[str, Any]]]()
    for body in bodies:
        if not isinstance(body, Mapping) or not isinstance(body.get("metadata"), Mapping):
            raise ClusterError("There is no object in it: kubectl prints one with --output json")
        group = str(body.get("apiVersion") or "").rpartition("/")[0]
        name = ".".join(filter(None, [str(body.get("kind") or "object").lower(), group]))
        found.append((name, body))
    return found
