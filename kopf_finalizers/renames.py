"""Former names: an operator recognises the names it has lived with, and leaves them behind.

A rename takes three releases, so that a rollback by one release never meets a name it does not
know:

| release | new objects get | recognised | the storages read | and write |
| --- | --- | --- | --- | --- |
| `rollout="recognise"` | the former name | both | both places | both places |
| `rollout="switch"` | the new name | both | both places | the new place |
| without `former` | the new name | the new name | the new place | the new place |

With `"switch"`, an object that still carries a former name or a former record gets the new ones in
their place, in one atomic patch, when it is next seen alive. To an object being deleted nothing is
added: it is released whichever names it carries.

Kopf (1.44 to 1.45) asks of its finalizer only whether it is in an object's list, and removes it
from there. So a `str` that also equals the former names is recognised, by public means. That rests
on how Kopf compares, so it is tried at every start, and an operator whose Kopf compares otherwise
refuses to start.
"""

import importlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeAlias, cast

import kopf

from .errors import ConfigurationError
from .names import MAX_STORAGE_PREFIX, OperatorIdentity, check_finalizer
from .patches import (
    MergeIntoBody,
    ReplaceFinalizer,
    finalizers_of,
    has_effect,
    is_being_deleted,
    wake_up,
)
from .settings import KOPF_FINALIZER, KOPF_PREFIX, logger
from .unset import LEFT_OUT, LeftOut

Rollout: TypeAlias = Literal["recognise", "switch"]

_ROLLOUTS = ("recognise", "switch")


@dataclass(frozen=True)
class Rename:
    """From which names to which: what an operator says with `former=`, `rollout=` and the rest."""

    identity: OperatorIdentity
    former: tuple[str, ...]
    rollout: Rollout
    former_storage_prefix: str | None
    former_is_shared: bool

    @classmethod
    def checked(
        cls,
        identity: OperatorIdentity,
        *,
        former: Iterable[str],
        rollout: str,
        former_storage_prefix: str | LeftOut | None,
        storages: bool,
        former_is_shared: bool,
        renames_dedicated: bool,
    ) -> Self | None:
        """The rename, or None where there are no former names.

        Raises:
            ConfigurationError: A name is none that an API server takes, or the arguments do not go
                together.
        """
        names = former_names(identity.finalizer, former, rollout)
        if not names and not renames_dedicated and rollout == "recognise":
            raise ConfigurationError(
                'rollout="recognise" goes on with a former name, and there is none: add'
                f' former=["{KOPF_FINALIZER}"], or the name that the operator had.'
            )
        prefix = _checked_prefix(identity, names, former_storage_prefix, storages=storages)
        if not names:
            return None
        return cls(
            identity=identity,
            former=names,
            rollout=cast("Rollout", rollout),
            former_storage_prefix=prefix,
            former_is_shared=former_is_shared,
        )

    @property
    def name(self) -> str:
        """The new name."""
        return self.identity.finalizer

    @property
    def written(self) -> str:
        """The name that new objects get."""
        return self.former[0] if self.rollout == "recognise" else self.name

    def apply(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """Have Kopf recognise the former names, and the storages read the former place.

        Raises:
            ConfigurationError: This Kopf compares finalizers in a way that makes it impossible.
        """
        finalizer = RecognisedFinalizer(self.written, {self.name, *self.former})
        refuse_if_kopf_compares_otherwise(finalizer)
        settings.persistence.finalizer = finalizer
        places = None
        if self.former_storage_prefix is not None:
            places = _Places(self, settings, datetime.now(UTC))
            settings.persistence.progress_storage = _ProgressInBothPlaces(places)
            settings.persistence.diffbase_storage = _DiffBaseInBothPlaces(places)
        if self.rollout == "switch":
            _Mover(self, settings, places).watch(registry)


def former_names(name: str, former: Iterable[str], rollout: str) -> tuple[str, ...]:
    """Former names as they were given, checked.

    Raises:
        ConfigurationError: They are not a list of names, one is none that an API server takes, one
            is the new name, or the rollout is not known.
    """
    if rollout not in _ROLLOUTS:
        raise ConfigurationError(
            f'rollout="{rollout}" is not known: use "recognise" in the first release of a rename,'
            ' "switch" in the second, and leave former= out in the third.'
        )
    if isinstance(former, str):
        raise ConfigurationError(
            f'former="{former}" must be a list of names, as in former=["{former}"].'
        )
    names = tuple(check_finalizer(one) for one in former)
    if name in names:
        raise ConfigurationError(
            f'The former name "{name}" is the new name too: list only names that are to be left.'
        )
    return names


def former_names_of(
    identity: OperatorIdentity, former: Mapping[str, Iterable[str]], rollout: str
) -> dict[str, tuple[str, ...]]:
    """For each dedicated finalizer, by its whole name: the names that it had.

    Raises:
        ConfigurationError: As for `former_names`, and as for `OperatorIdentity.finalizer_for`.
    """
    names = {identity.finalizer_for(purpose): those for purpose, those in former.items()}
    return {name: former_names(name, those, rollout) for name, those in names.items()}


def _checked_prefix(
    identity: OperatorIdentity,
    former: Collection[str],
    prefix: str | LeftOut | None,
    *,
    storages: bool,
) -> str | None:
    """Where the operator's records were; None where they do not move.

    Raises:
        ConfigurationError: There is a place but nothing that could move, or it is none.
    """
    if prefix is LEFT_OUT:
        if KOPF_FINALIZER in former and storages:
            return KOPF_PREFIX
        if former and storages:
            logger.warning(
                "former=%s tells nothing about where this operator kept its records, so they are"
                " expected under %s. If they are elsewhere, its handlers will be called again for"
                " existing objects: add former_storage_prefix= (Kopf's default is %s), or"
                " former_storage_prefix=None if they do not move.",
                list(former),
                identity.storage_prefix,
                KOPF_PREFIX,
            )
        return None
    if prefix is None:
        return None
    if not (former and storages):
        raise ConfigurationError(
            f'former_storage_prefix="{prefix}" goes with former= and with storages that this'
            " library sets: add former=[...], and leave storages=False out."
        )
    check_finalizer(f"{prefix}/name")
    if len(prefix) > MAX_STORAGE_PREFIX or prefix == identity.storage_prefix:
        raise ConfigurationError(
            f'former_storage_prefix="{prefix}" is longer than Kopf takes ({MAX_STORAGE_PREFIX}'
            " characters), or is where the records are to go."
        )
    return prefix


class RecognisedFinalizer(str):
    """A finalizer that equals its former names too."""

    __slots__ = ("names",)
    names: frozenset[str]

    def __new__(cls, name: str, names: Iterable[str]) -> Self:
        """Make one that is written as `name` and equals all of `names`."""
        self = super().__new__(cls, name)
        self.names = frozenset(names)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str.__str__(other) in self.names

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> str:
        # What Kopf puts into a patch is a plain string: it equals itself and nothing else.
        return str.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str.__str__(self),)


def refuse_if_kopf_compares_otherwise(finalizer: RecognisedFinalizer) -> None:
    """Try how Kopf finds, adds and removes its finalizer.

    One of two places where this library touches what Kopf does not publish: there is no public way
    to ask Kopf whether it recognises a finalizer, short of running it on an object.

    Raises:
        ConfigurationError: Kopf does not recognise a former name, or cannot be asked.
    """
    try:
        functions = importlib.import_module("kopf._cogs.structs.finalizers")
        for name in finalizer.names:
            body: dict[str, Any] = {"metadata": {"finalizers": ["other.org/f", name]}}
            assert functions.is_deletion_blocked(body, finalizer)  # noqa: S101
            functions.block_deletion(body, finalizer)
            assert body["metadata"]["finalizers"] == ["other.org/f", name]  # noqa: S101
            functions.allow_deletion(body, finalizer)
            assert body["metadata"]["finalizers"] == ["other.org/f"]  # noqa: S101
    except (AssertionError, AttributeError, ImportError, TypeError) as error:
        raise ConfigurationError(
            "This version of Kopf compares finalizers in a way that kopf-finalizers does not know,"
            " so former names would not be recognised, and objects that carry them would hang when"
            " they are deleted. Go back to the version of Kopf that the last release used, and look"
            " for a newer kopf-finalizers."
        ) from error


@dataclass(frozen=True)
class Description:
    """Whose the finalizers of one object are, in the order in which they stand on it.

    `own` are those of this operator, `former` those that it had and recognises, `foreign` everybody
    else's. `is_stuck` tells that the object is being deleted and that this operator has nothing to
    take off it any more: it waits for others, for ever if nobody takes their finalizers off.
    """

    own: tuple[str, ...]
    former: tuple[str, ...]
    foreign: tuple[str, ...]
    is_being_deleted: bool
    is_stuck: bool

    def __str__(self) -> str:
        parts = [("own", self.own), ("former", self.former), ("foreign", self.foreign)]
        shown = "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)
        state = "being deleted" if self.is_being_deleted else "alive"
        return f"{state}; {shown or 'no finalizers'}{'; stuck' if self.is_stuck else ''}"


def describe(
    body: Mapping[str, Any],
    identity: OperatorIdentity,
    former: Collection[str],
    dedicated: Collection[str] = (),
) -> Description:
    """Whose the finalizers of one object are; `dedicated` are those that handlers use."""
    finalizers = finalizers_of(body)
    own = [name for name in finalizers if identity.owns(name) or name in dedicated]
    known = [name for name in finalizers if name in former and name not in own]
    taken_off = {identity.finalizer, *former, *dedicated}
    return Description(
        own=tuple(own),
        former=tuple(known),
        foreign=tuple(name for name in finalizers if name not in own and name not in known),
        is_being_deleted=is_being_deleted(body),
        is_stuck=is_being_deleted(body) and bool(finalizers) and taken_off.isdisjoint(finalizers),
    )


class _Places:
    """Where an operator's records are: under its own prefix, and where they were before."""

    def __init__(self, rename: Rename, settings: kopf.OperatorSettings, started: datetime) -> None:
        prefix = str(rename.former_storage_prefix)
        self.rename = rename
        self.started = started
        self.own_progress = settings.persistence.progress_storage
        self.own_diffbase = settings.persistence.diffbase_storage
        self.former_progress = kopf.AnnotationsProgressStorage(prefix=prefix)
        self.former_diffbase = kopf.AnnotationsDiffBaseStorage(prefix=prefix)

    @property
    def writes_both(self) -> bool:
        """Whether a rollback by one release would read the former place only."""
        return self.rename.rollout == "recognise"

    @property
    def clears_former(self) -> bool:
        """Whether the former place is left behind, and is nobody else's."""
        return self.rename.rollout == "switch" and not self.rename.former_is_shared

    def believes_former(self, body: kopf.Body) -> bool:
        """Whether a record in the former place can be this operator's.

        Of an object younger than this process it cannot: this process would have written its own
        place too. What stands there was written by another operator with the same default place.
        """
        created = body["metadata"].get("creationTimestamp")
        return created is None or datetime.fromisoformat(created) <= self.started

    def left_behind(self, body: kopf.Body) -> dict[str, None]:
        """The annotations of the former place that are of no more use, as a merge patch."""
        if not self.clears_former:
            return {}
        former = self.former_diffbase
        keys = {*former.make_keys(former.key, body=body), f"{former.prefix}/kopf-managed"}
        keys.update(self.former_progress.make_keys(self.former_progress.touch_key, body=body))
        return dict.fromkeys(sorted(keys & body.metadata.annotations.keys()))

    def moved(self, body: kopf.Body) -> MergeIntoBody | None:
        """The last handled state in its new place, as a change of a body; None if it is there."""
        merge = MergeIntoBody()
        if self.own_diffbase.fetch(body=body) is None and self.believes_former(body):
            essence = self.former_diffbase.fetch(body=body)
            if essence is not None:
                self.own_diffbase.store(body=body, patch=merge.patch, essence=essence)
        if left_behind := self.left_behind(body):
            merge.patch.metadata.annotations.update(left_behind)
        return merge if merge.patch else None


class _ProgressInBothPlaces(kopf.MultiProgressStorage):
    """Handlers' attempts: what is in flight in the former place goes on from there."""

    def __init__(self, places: _Places) -> None:
        super().__init__([places.own_progress, places.former_progress])
        self._places = places

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        record = self._places.own_progress.fetch(key=key, body=body)
        if record is None and self._places.believes_former(body):
            record = self._places.former_progress.fetch(key=key, body=body)
        return record

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        self._places.own_progress.store(key=key, record=record, body=body, patch=patch)
        if self._places.writes_both:
            self._places.former_progress.store(key=key, record=record, body=body, patch=patch)
        elif self._places.clears_former:
            self._places.former_progress.purge(key=key, body=body, patch=patch)

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        self._places.own_progress.purge(key=key, body=body, patch=patch)
        if self._places.writes_both or self._places.clears_former:
            self._places.former_progress.purge(key=key, body=body, patch=patch)

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        self._places.own_progress.touch(body=body, patch=patch, value=value)


class _DiffBaseInBothPlaces(kopf.MultiDiffBaseStorage):
    """The last handled state: of an object that has none of its own yet, the former one."""

    def __init__(self, places: _Places) -> None:
        super().__init__([places.own_diffbase, places.former_diffbase])
        self._places = places

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        essence = self._places.own_diffbase.fetch(body=body)
        if essence is None and self._places.believes_former(body):
            essence = self._places.former_diffbase.fetch(body=body)
        return essence

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        self._places.own_diffbase.store(body=body, patch=patch, essence=essence)
        if self._places.writes_both:
            self._places.former_diffbase.store(body=body, patch=patch, essence=essence)
        elif self._places.clears_former:
            patch.metadata.annotations.update(self._places.left_behind(body))


class _Mover:
    """Gives objects that are alive the new name and the new place, when they are next seen."""

    def __init__(
        self, rename: Rename, settings: kopf.OperatorSettings, places: _Places | None
    ) -> None:
        self._rename = rename
        self._settings = settings
        self._places = places
        self._replace = ReplaceFinalizer(rename.name, former=frozenset(rename.former))
        # Each object is moved once. What comes back after that was put there by somebody else with
        # the same default names, and to take it away again and again would be the old ping-pong.
        self._moved = set[str]()

    def watch(self, registry: kopf.OperatorRegistry) -> None:
        """See every object of every resource on which the operator may need its finalizer."""
        event: Callable[..., Any] = kopf.on.event
        for number, (args, options) in enumerate(handled_resources(registry)):
            name = f"kopf-finalizers/move:{number}"
            event(*args, **options, registry=registry, id=name, when=self._move)(_never)

    def _move(
        self,
        *,
        body: kopf.Body,
        patch: kopf.Patch,
        type: str | None,  # noqa: A002 - Kopf's name
        logger: kopf.Logger,
        **_: Any,
    ) -> bool:
        """A filter that moves an object, and never lets Kopf call the handler."""
        uid = str(body["metadata"].get("uid"))
        if type == "DELETED" or is_being_deleted(body):
            self._moved.discard(uid)
        elif self._replace not in patch.fns:  # it is after a conflict
            moves = self._moves(body, first=uid not in self._moved)
            patch.fns.extend(moves)
            if moves:
                self._moved.add(uid)
                known = describe(body, self._rename.identity, self._rename.former)
                logger.info(f"Moving from former names to {self._rename.name}: {known}.")
        if patch.fns and not has_effect(patch, body):
            wake_up(self._settings, body, patch)
        return False

    def _moves(self, body: kopf.Body, *, first: bool) -> list[kopf.PatchFn]:
        """What is to change on an object that is alive, in one atomic patch."""
        moves = list[kopf.PatchFn]()
        unguarded = self._rename.name not in finalizers_of(body)
        if self._replace.has_effect(body) and (
            unguarded or (first and not self._rename.former_is_shared)
        ):
            moves.append(self._replace)
        if first and self._places is not None and (records := self._places.moved(body)):
            moves.append(records)
        return moves


async def _never(**_: Any) -> None:  # pragma: no cover - the filters above always say no
    """What Kopf would call if a filter above said yes."""


def handled_resources(
    registry: kopf.OperatorRegistry,
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The resources of an operator's handlers that may need its finalizer, as Kopf was given them.

    The other of the two places where this library reads what Kopf does not publish: handlers may
    be registered with Kopf's own decorators, and there is no public way to ask which resources they
    are for. A test fails when Kopf changes it.
    """
    found = list[tuple[tuple[Any, ...], dict[str, Any]]]()
    for handlers in (registry._changing, registry._spawning):  # noqa: SLF001
        for handler in handlers.get_all_handlers():
            given = {key: one for key, one in vars(handler.selector).items() if one is not None}
            args = tuple(given.pop(name) for name in ("any_name", "fn") if name in given)
            if (args, given) not in found:
                found.append((args, given))
    return found
