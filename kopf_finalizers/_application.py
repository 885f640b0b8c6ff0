"""An identity applied to an operator: what is set, and who looks at its objects and handlers."""

import functools
from typing import TYPE_CHECKING, Any

import kopf

from ._dedicated.cleanups import Cleanups
from ._dedicated.dedicated import DedicatedFinalizers
from ._identity import OperatorIdentity
from ._moves import Moves
from ._record_names import is_record
from ._renames.declared import Rename, Rollout, warn_of_new
from ._resources import handler_ids
from ._selection import Selection
from ._settings import (
    KOPF_FINALIZER,
    DefaultMarker,
    GivenStorages,
    HandlerIds,
    Unchanged,
    apply_identity,
    introduce,
    refuse_guarding,
    warn_of_replaced,
    warn_of_shared_places,
)
from ._undeclared import Undeclared
from ._unknown_states import UnknownStates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._description import Description
    from ._renames.renaming import Renaming


class Application:
    """What is done when an identity is applied, and when a handler is declared after that.

    Args:
        identity: Who the operator is.
        storages: Whether the identity sets the storages.
        given: Those that were handed in, in place of its own.
        watches_only: Whether the operator has said that it needs no finalizer.
        rename: Its former names and places, if any.
        rollout: The release of a rename.
        strict: Whether handlers wait on an object whose last state is not found.
        dedicated: Its dedicated finalizers.
        cleanups: All cleanups, with the ids by which Kopf knows them.
        undeclared: What warns of finalizers that no handler declares.
        describe: Whose the finalizers of an object are.
    """

    def __init__(
        self,
        identity: OperatorIdentity,
        *,
        storages: bool,
        given: GivenStorages,
        watches_only: bool,
        rename: Rename | None,
        rollout: Rollout,
        strict: bool,
        dedicated: DedicatedFinalizers,
        cleanups: Cleanups,
        undeclared: Undeclared,
        describe: "Callable[[Mapping[str, Any]], Description]",
    ) -> None:
        self._identity = identity
        self._storages = storages
        self._given = given
        self._watches_only = watches_only
        self._rename = rename
        self._rollout = rollout
        self._dedicated = dedicated
        self._cleanups = cleanups
        self._undeclared = undeclared
        self._former = rename.former if rename else ()
        self._former_places = (rename and rename.former_places) or ()
        self._renaming: Renaming | None = None
        # One that only watches has left no marker behind, and a former name is recognised.
        unmarked = watches_only or KOPF_FINALIZER in self._former
        self._marker = None if unmarked else DefaultMarker(identity, undeclared.look_at)
        self._selection = Selection(describe)
        self._states = UnknownStates(
            (identity.finalizer, *self._former), self._former_places, strict=strict
        )
        self._ids = HandlerIds()
        self._applied: kopf.OperatorSettings | None = None

    def apply(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """Apply the identity, before the operator starts; see `Finalizers.apply`."""
        if self._rollout == "recognise":
            dedicated = [use.finalizer for use in self._dedicated.uses]
            warn_of_new(dedicated, self._dedicated.former_names)
        warn_of_replaced(
            settings,
            self._identity,
            former=self._former,
            former_places=self._former_places,
            storages=self._storages,
        )
        look_at = (self._marker or self._undeclared).look_at
        apply_identity(
            settings,
            self._identity,
            storages=self._storages,
            given=self._given,
            look_at=look_at,
            ids=self._ids,
        )
        if self._marker is not None and not (self._storages and self._given.diffbase is None):
            self._marker.watch(registry)
        moves, records, renaming = Moves(settings), None, self._renaming_in(registry)
        if renaming is not None:
            records = renaming.set(settings, moves)
        if self._storages and not self._watches_only:
            self._states.apply(settings, registry, moves)
        self._dedicated.prepare(settings, registry)
        self._applied = settings
        self._unchanged = unchanged = Unchanged(
            settings,
            self._identity,
            storages=self._storages,
            registry=registry,
            begin=functools.partial(self._begin, settings, registry),
            awaited=self._dedicated.unasked,
        )
        # Whoever of them is asked about objects has a look: not every operator has all three.
        is_own = self._storages and self._given == GivenStorages()
        if self._marker is None and renaming is None and not is_own:
            unchanged.watch()
        if self._marker is not None:
            self._marker.unchanged = unchanged
        if renaming is not None:
            renaming.begin(settings, records, moves, unchanged)
        self._dedicated.apply(settings, unchanged, registry, moves)
        introduce(
            self._identity,
            former=self._former,
            watches_only=self._watches_only,
            own_storages=is_own,
            dedicated=[use.finalizer for use in self._dedicated.uses],
        )
        self._look_at_handlers(settings, registry)

    def _begin(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """When all startup handlers have run: they may have declared handlers, too."""
        if not self._watches_only:
            self._dedicated.look_on(settings, registry)
        self._selection.begin(settings, registry)
        if self._storages:
            warn_of_shared_places(self._given.progress, self._given.diffbase)
        else:
            persistence = settings.persistence
            warn_of_shared_places(persistence.progress_storage, persistence.diffbase_storage)
        self._look_at_handlers(settings, registry)

    def _look_at_handlers(
        self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry
    ) -> None:
        self._cleanups.check(registry)
        if self._watches_only:
            refuse_guarding(self._identity.finalizer, registry)
        self._ids.look_at_all(settings, registry)

    def is_record(self, annotation: str, registry: kopf.OperatorRegistry) -> bool:
        """Whether this operator keeps something in an annotation of that name."""
        if annotation.startswith(f"{self._identity.storage_prefix}/"):
            return True
        storages = [self._given.progress, self._given.diffbase, *self._former_places]
        if self._applied is not None:
            persistence = self._applied.persistence
            storages += [persistence.progress_storage, persistence.diffbase_storage]
        return is_record(annotation, storages, handler_ids(registry))

    def declared(self, registry: kopf.OperatorRegistry) -> None:
        """Look at the objects of a handler that is declared when the identity is in force."""
        if self._applied is None:
            return
        if self._dedicated.prepare(self._applied, registry):
            self._unchanged.renew()
        watched = None if self._marker is None else self._marker.resources
        moved = None if self._renaming is None else self._renaming.resources
        for resources in (watched, moved):
            if resources is not None:
                resources.ask()

    def _renaming_in(self, registry: kopf.OperatorRegistry) -> "Renaming | None":
        if self._rename is not None and self._renaming is None:
            # Imported when it is needed: most operators have no former names.
            from ._renames.renaming import Renaming

            self._renaming = Renaming(self._rename, registry)
        return self._renaming
