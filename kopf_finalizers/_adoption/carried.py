"""What an operator's objects carry: finalizers, and records of whatever Kopf operators."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import kopf

from .._bodies import finalizers_of
from .._records_of_others import KOPFS_KEY, last_states_in, progress_in

PROGRESS, LAST_STATE, MARKER = "progress", "last state", "mark"

_MARKER = "kopf-managed"  # Kopf (1.44 to 1.45)


@dataclass(frozen=True)
class Place:
    """Where records of one kind are.

    Attributes:
        kind: What they are: progress of a handler, or a last state.
        prefix: The prefix of the annotation.
        key: What is after it; of progress, the handler's.
    """

    kind: str
    prefix: str
    key: str

    @property
    def name(self) -> str:
        """As it is on the object."""
        return f"{self.prefix}/{self.key}"


@dataclass
class Carried:
    """The objects of one resource."""

    resource: str
    parts: Collection[str] = ()
    """What an object has at its top level; a last state has some of it."""

    objects: int = 0
    finalizers: Counter[str] = field(default_factory=Counter)
    places: Counter[Place] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    unhandled: int = 0
    """Objects without a last state anywhere."""

    def look(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Count the objects of one page, by their metadata."""
        for metadata in items:
            self.objects += 1
            self.finalizers.update(set(finalizers_of({"metadata": metadata})))
            places = list(_places_in(metadata.get("annotations") or {}, self.parts))
            self.places.update(places)
            self.unhandled += not any(one.kind == LAST_STATE for one in places)

    def look_at_status(self, body: Mapping[str, Any], fields: Iterable[Sequence[str]]) -> None:
        """Count the fields, of these, that a whole object has."""
        for path in fields:
            found: Any = body
            for name in path:
                found = found.get(name) if isinstance(found, Mapping) else None
            if found:
                self.statuses[".".join(path)] += 1


def _places_in(annotations: Mapping[str, Any], parts: Collection[str]) -> Iterable[Place]:
    for key in progress_in(annotations):
        yield _place(PROGRESS, key)
    for key in last_states_in(annotations, parts):
        yield _place(LAST_STATE, key)
    for key in annotations:
        if key.endswith(f"/{_MARKER}"):
            yield _place(MARKER, key)


def _place(kind: str, annotation: str) -> Place:
    prefix, _, key = annotation.rpartition("/")
    # Of one annotation that Kopf keeps under a name of its own for the pods of a deployment, say.
    if kind == LAST_STATE and key.startswith(KOPFS_KEY):
        key = KOPFS_KEY
    return Place(kind, prefix, key)


def is_progress_of(place: Place, handlers: Iterable[str]) -> bool:
    """Whether it is progress of one of these handlers, or of what is inside one of them."""
    storage = kopf.AnnotationsProgressStorage(prefix=place.prefix)
    for handler in handlers:
        for key in storage.make_keys(handler):
            if place.name == key or place.name.startswith(f"{key}."):
                return True
    return False
