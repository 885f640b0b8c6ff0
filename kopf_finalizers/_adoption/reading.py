"""What an operator's own files say of the names that it has today."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import kopf

from .._kopf import all_handlers_of, changing_handlers_of, guarding_handlers_of
from .._settings import KOPF_FINALIZER
from .releases import DEFAULT_DIFFBASE, DEFAULT_PROGRESS, AnyStorage, Today
from .sources import NAMES, Setting, Source
from .values import OwnStorage, Storage, Value

_FIELDS = {
    "finalizer": "finalizers",
    "progress_storage": "progress",
    "diffbase_storage": "diffbase",
}
_DEFAULTS: Mapping[str, Any] = {
    "finalizer": (KOPF_FINALIZER,),
    "progress_storage": DEFAULT_PROGRESS,
    "diffbase_storage": DEFAULT_DIFFBASE,
}
_KOPFS = "Kopf's default"


@dataclass(frozen=True)
class Said:
    """What a person says of an operator, in place of its files."""

    former: Sequence[str] = ()
    progress: str | None = None
    diffbase: str | None = None

    def values(self) -> dict[str, tuple[str, Any]]:
        """For each name: the option that says it, and the value."""
        found = dict[str, tuple[str, Any]]()
        if self.former:
            found["finalizer"] = "--former", tuple(self.former)
        if self.progress is not None:
            storage = Storage(kopf.AnnotationsProgressStorage, {"prefix": self.progress})
            found["progress_storage"] = "--former-progress-storage", storage
        if self.diffbase is not None:
            storage = Storage(kopf.AnnotationsDiffBaseStorage, {"prefix": self.diffbase})
            found["diffbase_storage"] = "--former-diffbase-storage", storage
        return found


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        today: The names; Kopf's own for those that cannot be told.
        said_by: For each name, where it is said.
        unknown: For each name that cannot be told, why.
        doubts: What else may change a name.
        sources: The operator's modules.
        handlers: The ids of its handlers that have records.
    """

    today: Today
    said_by: Mapping[str, str]
    unknown: Mapping[str, str] = field(default_factory=dict)
    doubts: Sequence[str] = ()
    sources: Sequence[Source] = ()
    handlers: Sequence[str] = ()

    @property
    def is_told(self) -> bool:
        """Whether all three names are known."""
        return not self.unknown

    def value(self, name: str) -> str:
        """A name, for people."""
        if name in self.unknown:
            return "not told"
        if name == "finalizer":
            names = ", ".join(self.today.finalizers) or "none"
            return names if self.today.guards else f"{names}; no handler needs one"
        storage: AnyStorage = getattr(self.today, _FIELDS[name])
        return storage.code if isinstance(storage, OwnStorage) else ", ".join(storage.places)


def read(sources: Sequence[Source], registry: kopf.OperatorRegistry, said: Said) -> Reading:
    """Read an operator's modules; its handlers are those of the registry."""
    settings = [one for source in sources for one in source.settings()]
    values, said_by, unknown = dict(_DEFAULTS), dict.fromkeys(NAMES, _KOPFS), dict[str, str]()
    given = said.values()
    for name in NAMES:
        those = [one for one in settings if one.name == name]
        if name in given:
            said_by[name], values[name] = given[name]
        elif those:
            said_by[name] = ", ".join(str(one.line) for one in those)
            found = list(_values_of(those))
            if len(found) == 1 and all(one.is_known and one.is_sure for one in those):
                values[name] = found[0]
            else:
                unknown[name] = _why(name, those, found)
    changing = changing_handlers_of(registry)
    today = Today(
        guards=bool(guarding_handlers_of(registry)),
        keeps_records=bool(changing),
        **{_FIELDS[name]: values[name] for name in NAMES},
    )
    doubts = [
        f"{line} hands settings.persistence to a function, which may set any of the three:"
        f" {line.text}"
        for source in sources
        for line in source.handed_on()
        if not given.keys() >= set(NAMES)
    ]
    if not all_handlers_of(registry):
        doubts.append(
            "Its files have no handlers. Where these come with other modules, as in a startup"
            " handler, name all of them, as files or with -m."
        )
    return Reading(
        today, said_by, unknown, doubts, sources, [str(handler.id) for handler in changing]
    )


def _values_of(settings: Iterable[Setting]) -> Iterator[Any]:
    """The different values, as `Today` has them; of what cannot be told, nothing."""
    seen = list[Value]()
    for one in settings:
        if not one.is_known or one.value in seen:
            continue
        seen.append(one.value)
        if one.name == "finalizer" and (one.value is None or isinstance(one.value, str)):
            yield (one.value,) if one.value else ()
        elif one.name != "finalizer" and isinstance(one.value, Storage | OwnStorage):
            yield one.value


_SAY = {
    "finalizer": "--former",
    "progress_storage": "--former-progress-storage",
    "diffbase_storage": "--former-diffbase-storage",
}


def _why(name: str, settings: Sequence[Setting], found: Sequence[Any]) -> str:
    lines = "; ".join(f"{one.line}: {one.line.text}" for one in settings)
    if len(settings) == 1 and not settings[0].is_sure:
        what = "is set only if something holds, which running it would tell"
    elif not found or any(not one.is_known for one in settings):
        what = "is set to what only running it would tell"
    else:
        what = "is set in more than one place, or only if something holds"
    return (
        f"settings.persistence.{name} {what} ({lines}). Look at what objects carry, and say it"
        f" with {_SAY[name]}."
    )
