"""What an operator says to `configure` in each release, by the names that it has today."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import kopf

from .._configure import configure
from .._finalizers import Finalizers
from .._identity import OperatorIdentity
from .._settings import KOPF_FINALIZER, KOPF_PREFIX
from .values import OwnStorage, Storage, made, written

DEFAULT_PROGRESS = Storage(kopf.SmartProgressStorage)
DEFAULT_DIFFBASE = Storage(kopf.AnnotationsDiffBaseStorage)
"""Kopf's own (1.44 to 1.45)."""

AnyStorage: TypeAlias = Storage | OwnStorage

_WIDTH = 84
_NAMES = ("one", "two", "three")


@dataclass(frozen=True)
class Today:
    """The names that an operator has today.

    Attributes:
        finalizers: Its finalizer, and those that it has had before; empty where it has none.
        progress: Its progress storage.
        diffbase: Its diff-base storage.
        guards: Whether a handler of it needs a finalizer at all.
        keeps_records: Whether a handler of it has records at all.
    """

    finalizers: tuple[str, ...] = (KOPF_FINALIZER,)
    progress: AnyStorage = DEFAULT_PROGRESS
    diffbase: AnyStorage = DEFAULT_DIFFBASE
    guards: bool = True
    keeps_records: bool = True

    @property
    def keeps_storages(self) -> bool:
        """Whether only the operator's author knows where its records are."""
        return isinstance(self.progress, OwnStorage) or isinstance(self.diffbase, OwnStorage)

    @property
    def prefixes(self) -> list[str]:
        """The prefixes of the annotations that its records are in."""
        found = [
            part.prefix
            for one in (self.progress, self.diffbase)
            if isinstance(one, Storage)
            for part in one.parts
            if getattr(part, "prefix", None)
        ]
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Release:
    """One release: what it says to `configure`."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def code(self) -> str:
        """A module that says it, or what stands at the head of the operator's file."""
        line = _call("finalizers = kopf_finalizers.configure", self.arguments)
        imports = (
            ["import kopf"] if " kopf." in line or "=kopf." in line or "[kopf." in line else []
        )
        return "\n".join([*imports, "import kopf_finalizers", "", line])

    def tried(self) -> Finalizers:
        """What `configure` makes of it.

        Raises:
            ConfigurationError: It refuses that.
        """
        return configure(
            **{name: made(one) for name, one in self.arguments.items()},
            registry=kopf.OperatorRegistry(),
        )


def _call(name: str, arguments: Mapping[str, Any], *, before: str = "", indent: str = "") -> str:
    """A call, in as many lines as it needs."""
    line = f"{name}({', '.join(f'{key}={written(one)}' for key, one in arguments.items())})"
    if len(indent + before + line) < _WIDTH:
        return before + line
    deeper = f"{indent}    "
    parts = list[str]()
    for key, one in arguments.items():
        if isinstance(one, Storage):
            kind = f"kopf.{one.kind.__name__}"
            parts.append(_call(kind, one.options, before=f"{key}=", indent=deeper))
        else:
            parts.append(f"{key}={written(one)}")
    return "\n".join([f"{before}{name}(", *(f"{deeper}{one}," for one in parts), f"{indent})"])


def releases(
    today: Today,
    identity: OperatorIdentity,
    *,
    carried: Iterable[str] = (),
    keeps_finalizer: bool = False,
    is_shared: bool = False,
) -> list[Release]:
    """The releases after which the operator has the names of this identity.

    Where nothing moves it is one. `carried` are the finalizers that are on its objects;
    `keeps_finalizer` says so by the whole name.
    """
    said: dict[str, Any] = {"domain": identity.domain, "operator": identity.operator}
    if keeps_finalizer and today.guards:
        said = {"finalizer": identity.finalizer}
    if identity.keep_finalizer is not None and today.guards:
        said["keep_finalizer"] = identity.keep_finalizer
    former = [one for one in today.finalizers if one != identity.finalizer]
    only_watches = not today.guards
    if only_watches:
        # What it takes off must be its own, and Kopf's default name may be anybody's.
        former = [one for one in former if one in set(carried) - {KOPF_FINALIZER}]
    last = said | ({"finalizer": None} if only_watches else {})
    moves: dict[str, Any] = {"former": former} if former else {}
    if today.keeps_storages:
        last["storages"] = said["storages"] = False
    elif today.keeps_records:
        assert isinstance(today.progress, Storage)  # noqa: S101 - as said above
        assert isinstance(today.diffbase, Storage)  # noqa: S101
        moves |= _places(today.progress, today.diffbase, identity, former)
        if ignored := [one for part in today.diffbase.parts for one in part.ignored_fields]:
            options = {"prefix": identity.storage_prefix, "ignored_fields": ignored}
            kept = Storage(kopf.AnnotationsDiffBaseStorage, options)
            last["diffbase_storage"] = said["diffbase_storage"] = kept
    elif former and KOPF_FINALIZER not in former:
        moves["former_storage_prefix"] = None
    if only_watches and not former:
        said = {"domain": said.pop("domain"), "operator": said.pop("operator"), **last}
    if not any(one is not None for one in moves.values()):
        return [Release("", last)]
    if is_shared:
        moves["former_is_shared"] = True
    each = (said | moves | {"rollout": "recognise"}, said | moves, last)
    return [Release(name, one) for name, one in zip(_NAMES, each, strict=True)]


def _places(
    progress: Storage, diffbase: Storage, identity: OperatorIdentity, former: list[str]
) -> dict[str, Any]:
    """Where its records were, by as few words as do."""
    places = [_plain(one) for one in (progress, diffbase)]
    own = identity.storage_prefix
    if places == [own, own]:
        # Left out, it would be asked for, or taken for Kopf's default.
        return {"former_storage_prefix": None} if former else {}
    if places[0] is not None and places[0] == places[1]:
        if places[0] == KOPF_PREFIX and KOPF_FINALIZER in former:
            return {}
        return {"former_storage_prefix": places[0]}
    return {
        "former_progress_storage": places[0] or progress,
        "former_diffbase_storage": places[1] or diffbase,
    }


_TELLS_NOTHING = frozenset({"prefix", "verbose"})


def _plain(storage: Storage) -> str | None:
    """The prefix alone, where that says everything about a storage."""
    kinds = (kopf.AnnotationsProgressStorage, kopf.AnnotationsDiffBaseStorage)
    is_smart = storage.kind is kopf.SmartProgressStorage
    prefix = str(storage.options.get("prefix") or KOPF_PREFIX)
    if storage.kind in kinds or (is_smart and prefix == KOPF_PREFIX):
        is_there = storage.options.get("prefix", prefix) == prefix
        if is_there and storage.options.keys() <= _TELLS_NOTHING:
            return prefix
    return None
