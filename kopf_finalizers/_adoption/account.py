"""Whose is what an operator's objects carry, and what does not fit to what its files say."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .._cluster.whose import KOPF_FINALIZER, KOPF_PREFIX, Whose, owner_of
from .._identity import OperatorIdentity
from .carried import LAST_STATE, MARKER, PROGRESS, Carried, Place, is_progress_of
from .reading import Reading
from .values import Storage

_ANY_KOPF = "and any other Kopf operator's with Kopf's default names"


@dataclass
class Row:
    """One name on objects.

    Attributes:
        name: A finalizer, or an annotation, or a field of the status.
        whose: Whose it is, as far as that can be told.
        resources: How many objects of each resource carry it.
    """

    name: str
    whose: str
    resources: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Account:
    """What objects carry, against what an operator's files say.

    Attributes:
        reading: What its files say.
        found: What its objects carry, by resource.
        identity: Who it is to be, if that is known.
    """

    reading: Reading
    found: Sequence[Carried]
    identity: OperatorIdentity | None

    @property
    def objects(self) -> int:
        """How many objects were looked at."""
        return sum(one.objects for one in self.found)

    @property
    def finalizers(self) -> frozenset[str]:
        """The finalizers that are on any of them."""
        return frozenset(name for one in self.found for name in one.finalizers)

    def rows(self) -> list[Row]:
        """Each name, those of finalizers first."""
        found = dict[tuple[str, str], Row]()

        def add(name: str, whose: str, resource: str, count: int) -> None:
            row = found.setdefault((name, whose), Row(name, whose))
            # Several handlers of one object are one object, and nobody knows which ones are.
            row.resources[resource] = max(row.resources[resource], count)

        prefixes = {place.prefix for place in self._places()}
        for one in self.found:
            for name, count in sorted(one.finalizers.items()):
                add(name, self._whose_finalizer(name, prefixes), one.resource, count)
        with_records = {place.prefix for place in self._places() if place.kind != MARKER}
        for one in self.found:
            for place, count in sorted(one.places.items(), key=lambda pair: pair[0].name):
                if place.kind == MARKER and place.prefix in with_records:
                    continue
                name = f"{place.prefix}/…" if place.kind == PROGRESS else place.name
                add(name, self._whose_records(place), one.resource, count)
            for name, count in one.statuses.items():
                add(name, "this operator's", one.resource, count)
        return list(found.values())

    def _places(self) -> Iterator[Place]:
        for one in self.found:
            yield from one.places

    def _whose_finalizer(self, name: str, prefixes: set[str]) -> str:
        if name in self._finalizers:
            return "this operator's" + (f", {_ANY_KOPF}" if name == KOPF_FINALIZER else "")
        if self._is_new(name):
            return "this operator's, by its new name"
        known = owner_of(name, prefixes, None, Whose.OTHER)
        if name == KOPF_FINALIZER:
            return f"{known}, or an earlier release of this one"
        domain = name.partition("/")[0] if "/" in name else "nobody, by its name"
        return known or f"not told; whom to ask: {domain}"

    def _is_new(self, name: str) -> bool:
        return self.identity is not None and self.identity.owns(name)

    @property
    def _finalizers(self) -> Collection[str]:
        is_unknown = "finalizer" in self.reading.unknown
        return () if is_unknown else self.reading.today.finalizers

    def _whose_records(self, place: Place) -> str:
        what = {PROGRESS: "progress", LAST_STATE: "last states", MARKER: "Kopf's mark"}[place.kind]
        if place.kind == PROGRESS and is_progress_of(place, self.reading.handlers):
            what = "progress of its handlers"
        elif place.kind == PROGRESS:
            what = f"progress of {place.key}, which is no handler of this operator"
            return f"not told: {what}"
        if self._is_own(place):
            return f"{what}: this operator's" + (
                f", {_ANY_KOPF}" if place.prefix == KOPF_PREFIX else ""
            )
        if self.identity is not None and place.prefix == self.identity.storage_prefix:
            return f"{what}: this operator's, in its new place"
        return f"{what}: not told; some Kopf operator's"

    def _is_own(self, place: Place) -> bool:
        today, unknown = self.reading.today, self.reading.unknown
        for name, storage, kind in (
            ("progress_storage", today.progress, PROGRESS),
            ("diffbase_storage", today.diffbase, LAST_STATE),
        ):
            if name in unknown or not isinstance(storage, Storage):
                continue
            there = [one for one in storage.parts if getattr(one, "prefix", None) == place.prefix]
            if place.kind == kind == LAST_STATE:
                there = [one for one in there if one.key == place.key]
            if there and place.kind in (kind, MARKER):
                return True
        return False

    def contradictions(self) -> Iterator[str]:
        """What objects carry that does not fit to what the files say."""
        today = self.reading.today
        those = frozenset(self._finalizers)
        has_own = any(map(self._is_new, self.finalizers)) or bool(those & self.finalizers)
        if today.guards and self.objects and those and not has_own:
            yield (
                f"None of the {self.objects:,} objects carries {' or '.join(today.finalizers)},"
                " which its files say that it has. If its objects have another one, by an older"
                " release of it, say all that it has had with --former."
            )
        last_states = [one for one in set(self._places()) if one.kind == LAST_STATE]
        is_known = "diffbase_storage" not in self.reading.unknown
        if is_known and isinstance(today.diffbase, Storage) and last_states:
            own = self.identity.storage_prefix if self.identity else None
            if not any(self._is_own(one) or one.prefix == own for one in last_states):
                names = ", ".join(sorted(one.name for one in last_states))
                yield (
                    f"No object has a last state in {', '.join(today.diffbase.places)}, where its"
                    f" files say that it keeps them. They are in {names}: if that is this"
                    " operator's, say its prefix with --former-diffbase-storage."
                )

    def strangers(self) -> Iterable[str]:
        """Handlers of others, by the records that they have where this operator keeps its own."""
        found = {
            place.key: None
            for place in self._places()
            if place.kind == PROGRESS
            and self._is_own(place)
            and not is_progress_of(place, self.reading.handlers)
        }
        return sorted(found)
