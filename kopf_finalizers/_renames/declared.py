"""What an operator says of the names it has lived with, and what is refused of it.

A rename takes three releases, so that a rollback by one release never meets a name it does not
know:

| release | new objects get | recognised | records are read | and written |
| --- | --- | --- | --- | --- |
| `rollout="recognise"` | the former name | both | where they are | where they were |
| `rollout="switch"` | the new name | both | where they are | in the new place |
| without `former` | the new name | the new name | in the new place | in the new place |
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, get_args

import kopf

from .._changes import Finalizer
from .._errors import ConfigurationError
from .._identity import OperatorIdentity
from .._kopf import parts_on_object
from .._names import MAX_STORAGE_PREFIX, check_finalizer
from .._settings import KOPF_FINALIZER, KOPF_PREFIX, logger
from .._unset import LEFT_OUT, LeftOut

FormerProgress: TypeAlias = str | kopf.ProgressStorage
FormerDiffBase: TypeAlias = str | kopf.DiffBaseStorage
FormerPlaces: TypeAlias = tuple[kopf.ProgressStorage, kopf.DiffBaseStorage]

Rollout: TypeAlias = Literal["recognise", "switch"]
"""The releases of a rename that have former names."""

_ROLLOUTS = get_args(Rollout)


@dataclass(frozen=True)
class Former:
    """What `configure` was given about former names, by its own keywords."""

    former: tuple[str, ...]
    former_dedicated: dict[str, tuple[str, ...]]
    rollout: Rollout
    former_storage_prefix: str | LeftOut | None
    former_progress_storage: FormerProgress | None
    former_diffbase_storage: FormerDiffBase | None
    former_is_shared: bool

    @classmethod
    def given(cls, *, former: object, former_dedicated: object, **others: Any) -> Self:
        """As it was given, with lists that can be compared.

        Raises:
            ConfigurationError: Something is not of its kind, or about names that are not given.
        """
        self = cls(
            former=_listed("former", former),
            former_dedicated=_dedicated(former_dedicated),
            **others,
        )
        self._refuse_other_kinds()
        return self

    def _refuse_other_kinds(self) -> None:
        prefix = self.former_storage_prefix
        if prefix not in (None, LEFT_OUT) and not isinstance(prefix, str):
            raise ConfigurationError(
                f"former_storage_prefix={prefix!r} must be the prefix of annotations"
                f' as a string, as in former_storage_prefix="{KOPF_PREFIX}", or None.'
                " [former-arguments]"
            )
        for what, kind in (
            ("former_progress_storage", kopf.ProgressStorage),
            ("former_diffbase_storage", kopf.DiffBaseStorage),
        ):
            storage = getattr(self, what)
            if storage is not None and not isinstance(storage, str | kind):
                raise ConfigurationError(
                    f"{what}={storage!r} must be the prefix of annotations as a string, or the"
                    f" storage that the operator had, a kopf.{kind.__name__}. [former-arguments]"
                )
            if isinstance(storage, kind) and not parts_on_object(storage):
                raise ConfigurationError(
                    f"{what}={storage!r} is none of Kopf's storages, so nobody can tell where its"
                    " records are on an object, and they could not be taken away when they move."
                    f" Give one of Kopf's: kopf.Annotations{kind.__name__} or"
                    f" kopf.Status{kind.__name__}. [former-arguments]"
                )
        if self.former_is_shared and not (self._says_places or self.former):
            raise ConfigurationError(
                "former_is_shared=True is about former names, and there are none: add"
                f' former=["{KOPF_FINALIZER}"], or leave it out. [former-arguments]'
            )

    @property
    def _says_places(self) -> bool:
        places = (
            self.former_storage_prefix,
            self.former_progress_storage,
            self.former_diffbase_storage,
        )
        return any(one is not None and one is not LEFT_OUT for one in places)

    def _former_places(
        self, identity: OperatorIdentity, names: Collection[str], *, storages: bool
    ) -> "FormerPlaces | None":
        """Where the operator's records were; None where they do not move."""
        progress, diffbase = self.former_progress_storage, self.former_diffbase_storage
        prefix = self.former_storage_prefix
        if progress is None and diffbase is None:
            prefix = _checked_prefix(identity, names, prefix, storages=storages)
            return None if prefix is None else _places(prefix, prefix)
        # What an operator does not set, it has where Kopf has it.
        other = prefix if isinstance(prefix, str) else KOPF_PREFIX
        progress = other if progress is None else progress
        diffbase = other if diffbase is None else diffbase
        for what, one in (
            ("former_progress_storage", progress),
            ("former_diffbase_storage", diffbase),
        ):
            if isinstance(one, str):
                is_known = {progress, diffbase} - {identity.storage_prefix}
                _check_prefix(identity, one, what, storages=storages, may_be_own=bool(is_known))
            elif not storages:
                raise ConfigurationError(_no_storages(what, repr(one)))
        return _places(progress, diffbase)

    def dedicated_names(self, identity: OperatorIdentity) -> dict[str, tuple[str, ...]]:
        """For each dedicated finalizer, by its whole name: the names that it had.

        Raises:
            ConfigurationError: As for `_checked_names`, and as for
                `OperatorIdentity.finalizer_for`; or a name belongs to two finalizers.
        """
        names = dict[str, tuple[str, ...]]()
        derived = map(identity.finalizer_for, self.former_dedicated)
        known = {identity.finalizer, *derived, *self.former}
        for purpose, those in self.former_dedicated.items():
            name = identity.finalizer_for(purpose)
            names[name] = _checked_names(name, those, self.rollout)
            for one in names[name]:
                if one in known:
                    raise ConfigurationError(
                        f'The former name "{one}" of "{name}" belongs to another finalizer of this'
                        " operator too, so the release of one would take the other off: list each"
                        " name once, and only names that are to be left. [former-name]"
                    )
            known.update(names[name])
        return names

    def rename(
        self, identity: OperatorIdentity, *, storages: bool, watches_only: bool
    ) -> "Rename | None":
        """The rename; None where neither the operator's finalizer nor its records move.

        Raises:
            ConfigurationError: A name is none that an API server takes, or the arguments do not go
                together.
        """
        names = _checked_names(identity.finalizer, self.former, self.rollout)
        if names and watches_only:
            raise ConfigurationError(
                f"former={list(names)} does not go with finalizer=None: an operator that only"
                " watches would take these finalizers off every object, whosever they are. Leave"
                ' former= out; its records move with former_storage_prefix="..." alone.'
                " [former-arguments]"
            )
        if names and self.rollout == "recognise" and identity.owns(names[0]):
            raise ConfigurationError(
                f'rollout="recognise" would put "{names[0]}", the first of former=, on new objects,'
                ' and it is a dedicated name of this operator. To drop it, use rollout="switch".'
                " [former-arguments]"
            )
        places = self._former_places(identity, names, storages=storages)
        if self.rollout == "recognise" and not (names or places or self.former_dedicated):
            raise ConfigurationError(
                'rollout="recognise" goes on with a former name, and there is none: add'
                f' former=["{KOPF_FINALIZER}"], or the name that the operator had.'
                " [former-arguments]"
            )
        if not names and places is None:
            return None
        return Rename(
            identity=identity,
            former=names,
            is_back=self.rollout == "recognise",
            former_places=places,
            former_is_shared=self.former_is_shared,
        )


@dataclass(frozen=True)
class Rename:
    """From which names to which, and in which of the releases: checked."""

    identity: OperatorIdentity
    former: tuple[str, ...]
    is_back: bool
    """Whether the former name is written: in the first release."""
    former_places: FormerPlaces | None
    former_is_shared: bool

    @property
    def former_storage_prefix(self) -> str | None:
        """The prefix of the annotations where last states were, if that is where they were."""
        diffbase = self.former_places[1] if self.former_places else None
        return getattr(diffbase, "prefix", None)

    @property
    def name(self) -> str:
        """The new name."""
        return self.identity.finalizer

    @property
    def finalizer(self) -> Finalizer:
        """The operator's own finalizer with the names that it had."""
        return Finalizer(self.name, self.former, self.is_back)


def _checked_names(name: str, former: Iterable[str], rollout: str) -> tuple[str, ...]:
    """Former names as they were given, checked.

    Raises:
        ConfigurationError: One is none that an API server takes, or is the new name; or the
            rollout is not known.
    """
    if rollout not in _ROLLOUTS:
        raise ConfigurationError(
            f'rollout="{rollout}" is not known: use "recognise" in the first release of a rename,'
            ' "switch" in the second, and leave former= out in the third. [former-arguments]'
        )
    names = tuple(check_finalizer(one) for one in former)
    if name in names:
        raise ConfigurationError(
            f'The former name "{name}" is the new name too: list only names that are to be left.'
            " An operator that keeps its finalizer leaves it out here; where its records are"
            " elsewhere, they move with former_storage_prefix= alone. [former-name]"
        )
    return names


def warn_of_new(dedicated: Iterable[str], known: Collection[str]) -> None:
    """Warn of dedicated finalizers that the release before the first one has never heard of."""
    if unknown := [name for name in dict.fromkeys(dedicated) if name not in known]:
        logger.warning(
            "The release before this one knows nothing of %s: after a rollback to it, objects"
            " that carry one of these hang when they are deleted. Give cleanups dedicated"
            " finalizers when the rename is done, in a release without rollout=."
            " [rollback-unknown]",
            ", ".join(unknown),
        )


def _listed(what: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ConfigurationError(
            f'{what}={names!r} must be a list of names, as in {what}=["{KOPF_FINALIZER}"].'
            " [former-arguments]"
        )
    return tuple(names)


def _dedicated(former: object) -> dict[str, tuple[str, ...]]:
    if former is None:
        return {}
    if not isinstance(former, Mapping):
        raise ConfigurationError(
            f"former_dedicated={former!r} must have for each purpose the names that it had, as in"
            ' former_dedicated={"backups": ["mycompany.com/old-backups"]}. [former-arguments]'
        )
    return {key: _listed(f"former_dedicated[{key!r}]", those) for key, those in former.items()}


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
                " former_storage_prefix=None if they do not move. [former-storage]",
                list(former),
                identity.storage_prefix,
                KOPF_PREFIX,
            )
        return None
    if prefix is None:
        return None
    _check_prefix(identity, str(prefix), "former_storage_prefix", storages=storages)
    return str(prefix)


def _check_prefix(
    identity: OperatorIdentity,
    prefix: str,
    what: str,
    *,
    storages: bool,
    may_be_own: bool = False,
) -> None:
    """Refuse what is no prefix, or not where anything was."""
    if not storages:
        raise ConfigurationError(_no_storages(what, f'"{prefix}"'))
    try:
        check_finalizer(f"{prefix}/name")
    except ConfigurationError:
        refused = "is no prefix that an annotation can have: it is a domain, without a slash"
    else:
        is_own = prefix == identity.storage_prefix and not may_be_own
        if len(prefix) <= MAX_STORAGE_PREFIX and not is_own:
            return
        refused = (
            "is where the records are to go: it is about where they were"
            if is_own
            else f"has {len(prefix)} characters, and Kopf takes {MAX_STORAGE_PREFIX}"
        )
    raise ConfigurationError(
        f'{what}="{prefix}" {refused}. Look at the annotations of an object, as in'
        f' "{KOPF_PREFIX}/last-handled-configuration", and give what stands before the slash.'
        " [former-arguments]"
    )


def _no_storages(what: str, value: str) -> str:
    return (
        f"{what}={value} goes with storages that this library sets: leave"
        " storages=False out, or this where the operator keeps its own storages."
        " [former-arguments]"
    )


def _places(progress: FormerProgress, diffbase: FormerDiffBase) -> FormerPlaces:
    if isinstance(progress, str):
        # Kopf's default storage, which has written a status too, up to Kopf 1.43.
        is_default = progress == KOPF_PREFIX
        kind = kopf.SmartProgressStorage if is_default else kopf.AnnotationsProgressStorage
        progress = kind(prefix=progress)
    if isinstance(diffbase, str):
        diffbase = kopf.AnnotationsDiffBaseStorage(prefix=diffbase)
    return progress, diffbase
