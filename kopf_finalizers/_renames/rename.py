"""Former names: an operator recognises the names it has lived with, and leaves them behind.

A rename takes three releases, so that a rollback by one release never meets a name it does not
know:

| release | new objects get | recognised | the storages read | and write |
| --- | --- | --- | --- | --- |
| `rollout="recognise"` | the former name | both | both places | both places |
| `rollout="switch"` | the new name | both | both places | the new place |
| without `former` | the new name | the new name | the new place | the new place |

With `"switch"`, an object that still carries a former name or a former record gets the new ones in
their place, in one atomic patch, when it is next seen alive. With `"recognise"` it is the other way
round: that happens after a rollback from `"switch"`, so that the release before can follow. To an
object being deleted nothing is added: it is released whichever names it carries.

Kopf (1.44 to 1.45) asks of its finalizer only whether it is in an object's list, and removes it
from there. So a `str` that also equals the former names is recognised, by public means. That rests
on how Kopf compares, so it is tried at every start, and an operator whose Kopf compares otherwise
refuses to start. What becomes of the records is in `records.py`.
"""

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

import kopf

from .._bodies import finalizers_of, is_being_deleted
from .._changes import AddFinalizer, Change, Finalizer, ReplaceFinalizer, has_effect, wake_up
from .._description import describe
from .._errors import ConfigurationError
from .._kopf import refuse_if_kopf_compares_otherwise
from .._names import MAX_STORAGE_PREFIX, OperatorIdentity, Rollout, check_finalizer
from .._resources import HandledResources, handler_ids
from .._settings import KOPF_FINALIZER, KOPF_PREFIX, Unchanged, logger
from .._unset import LEFT_OUT, LeftOut
from .recognised import RecognisedFinalizer
from .records import (
    DiffBaseInBothPlaces,
    MoveRecords,
    Place,
    ProgressInBothPlaces,
    Records,
    Sightings,
)

_ROLLOUTS = ("recognise", "switch")


@dataclass(frozen=True)
class Rename:
    """From which names to which: what an operator says with `former=`, `rollout=` and the rest."""

    identity: OperatorIdentity
    former: tuple[str, ...]
    rollout: Rollout
    former_storage_prefix: str | None
    former_is_shared: bool
    _movers: list["_Mover"] = field(default_factory=list, compare=False, repr=False)

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
        watches_only: bool,
    ) -> Self | None:
        """The rename, or None where neither the operator's finalizer nor its records move.

        Raises:
            ConfigurationError: A name is none that an API server takes, or the arguments do not go
                together.
        """
        names = former_names(identity.finalizer, former, rollout)
        if names and watches_only:
            raise ConfigurationError(
                f"former={list(names)} does not go with finalizer=None: an operator that only"
                " watches would take these finalizers off every object, whosever they are. Leave"
                ' former= out; its records move with former_storage_prefix="..." alone.'
            )
        if names and rollout == "recognise" and identity.owns(names[0]):
            raise ConfigurationError(
                f'rollout="recognise" would put "{names[0]}", the first of former=, on new objects,'
                ' and it is a dedicated name of this operator. To drop it, use rollout="switch".'
            )
        prefix = _checked_prefix(identity, names, former_storage_prefix, storages=storages)
        if rollout == "recognise" and not (names or prefix or renames_dedicated):
            raise ConfigurationError(
                'rollout="recognise" goes on with a former name, and there is none: add'
                f' former=["{KOPF_FINALIZER}"], or the name that the operator had.'
            )
        if not names and prefix is None:
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
    def finalizer(self) -> Finalizer:
        """The operator's own finalizer with the names that it had."""
        return Finalizer(self.name, self.former, self.rollout == "recognise")

    @property
    def written(self) -> str:
        """The name that new objects get."""
        return self.finalizer.written

    @property
    def left(self) -> frozenset[str]:
        """The names in whose place it is put."""
        return self.finalizer.left

    def apply(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> "_Mover":
        """Have Kopf recognise the former names, and the storages read the former place.

        Raises:
            ConfigurationError: This Kopf compares finalizers in a way that makes it impossible.
        """
        if self.former:
            finalizer = RecognisedFinalizer(self.written, {self.name, *self.former})
            refuse_if_kopf_compares_otherwise(finalizer, finalizer.names)
            settings.persistence.finalizer = finalizer
        sightings = Sightings()
        records = None
        if self.former_storage_prefix is not None:
            persistence = settings.persistence
            records = Records(
                Place(persistence.progress_storage, persistence.diffbase_storage),
                prefix=self.former_storage_prefix,
                goes_on=self.rollout == "recognise",
                shared=self.former_is_shared,
                sightings=sightings,
                handler_ids=functools.partial(handler_ids, registry),
            )
            persistence.progress_storage = ProgressInBothPlaces(records)
            persistence.diffbase_storage = DiffBaseInBothPlaces(records)
        if not self._movers:
            self._movers.append(_Mover(self, registry))
        self._movers[0].begin(settings, sightings, records)
        return self._movers[0]


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
    names = tuple(check_finalizer(one) for one in former)
    if name in names:
        raise ConfigurationError(
            f'The former name "{name}" is the new name too: list only names that are to be left.'
        )
    return names


def former_names_of(
    identity: OperatorIdentity,
    former: Mapping[str, Iterable[str]],
    rollout: str,
    *,
    taken: Iterable[str],
) -> dict[str, tuple[str, ...]]:
    """For each dedicated finalizer, by its whole name: the names that it had.

    Raises:
        ConfigurationError: As for `former_names`, and as for `OperatorIdentity.finalizer_for`; or a
            name belongs to two finalizers, or is `taken`.
    """
    names = dict[str, tuple[str, ...]]()
    known = {identity.finalizer, *map(identity.finalizer_for, former), *taken}
    for purpose, those in former.items():
        name = identity.finalizer_for(purpose)
        names[name] = former_names(name, those, rollout)
        for one in names[name]:
            if one in known:
                raise ConfigurationError(
                    f'The former name "{one}" of "{name}" belongs to another finalizer of this'
                    " operator too, so the release of one would take the other off: list each"
                    " name once, and only names that are to be left."
                )
        known.update(names[name])
    return names


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
        if storages and not all(map(identity.owns, former)):
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
    if not storages:
        raise ConfigurationError(
            f'former_storage_prefix="{prefix}" goes with storages that this library sets: leave'
            " storages=False out, or this prefix where the operator keeps its own storages."
        )
    try:
        check_finalizer(f"{prefix}/name")
    except ConfigurationError:
        refused = "is no prefix that an annotation can have: it is a domain, without a slash"
    else:
        if len(prefix) <= MAX_STORAGE_PREFIX and prefix != identity.storage_prefix:
            return prefix
        refused = (
            "is where the records are to go: it is about where they were"
            if prefix == identity.storage_prefix
            else f"has {len(prefix)} characters, and Kopf takes {MAX_STORAGE_PREFIX}"
        )
    raise ConfigurationError(
        f'former_storage_prefix="{prefix}" {refused}. Look at the annotations of an object, as in'
        f' "{KOPF_PREFIX}/last-handled-configuration", and give what stands before the slash.'
    )


class _Mover:
    """Gives objects that are alive the names and the places of this release, when next seen."""

    unchanged: Unchanged
    """What else is looked at then; set when the identity is applied."""

    def __init__(self, rename: Rename, registry: kopf.OperatorRegistry) -> None:
        self._rename = rename
        self._replace = ReplaceFinalizer(rename.written, former=rename.left)
        self.resources = HandledResources(self._move, purpose="move", registry=registry)

    def begin(
        self, settings: kopf.OperatorSettings, sightings: Sightings, records: Records | None
    ) -> None:
        """Take part in the cycles of an operator that is about to start."""
        self._settings = settings
        self._sightings = sightings
        self._records = records
        self.resources.ask()

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
        self.unchanged.check()
        moves = [] if type == "DELETED" else [m for m in self._moves(body) if m not in patch.fns]
        if moves and not self._sightings.is_moved(body):
            known = describe(body, self._rename.identity, self._rename.former)
            moves_names = any(isinstance(move, Change) for move in moves)
            what = "finalizer and records" if moves_names else "records"
            logger.info(f"Moving {what} to those of {self._rename.written}: {known}.")
            self._sightings.move(body)
        if type == "DELETED" or is_being_deleted(body):
            self._sightings.forget(body)
        patch.fns.extend(moves)
        if patch.fns and not has_effect(patch, body):
            wake_up(self._settings, body, patch)
        return False

    def _moves(self, body: kopf.Body) -> list[Change | MoveRecords]:
        """What there is to be done about an object."""
        # Released by "switch", it is never met by a release that knows no other place.
        stays = is_being_deleted(body) and self._rename.rollout == "switch"
        found = (self._change(body), None if stays else self._records_of(body))
        return [move for move in found if move is not None]

    def _change(self, body: kopf.Body) -> Change | None:
        """What is to be done about the names: nothing on an object that is being deleted."""
        if not self._replace.has_effect(body):
            return None
        lacks = self._replace.name not in finalizers_of(body)
        if self._rename.rollout == "recognise" or not self._rename.former_is_shared:
            # Once for each object. What comes back after that was put there by somebody else with
            # the same former name, and to take it away again and again would never end.
            return self._replace if lacks or not self._sightings.is_moved(body) else None
        if not lacks:
            return None
        # On an object that is younger than this process, the former name is somebody else's.
        is_younger = self._sightings.is_younger(body)
        return AddFinalizer(self._rename.name) if is_younger else self._replace

    def _records_of(self, body: kopf.Body) -> MoveRecords | None:
        if self._records is None:
            return None
        move = MoveRecords(self._records, self._records.believes_former(body))
        return move if move.has_effect(body) else None
