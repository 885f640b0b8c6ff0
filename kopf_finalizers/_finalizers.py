"""`Finalizers`: where an operator's names, settings and decorators meet."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import kopf

from ._application import Application
from ._changes import Finalizer, RemoveFinalizer, append
from ._dedicated.cleanups import Cleanups
from ._dedicated.dedicated import DedicatedFinalizers
from ._deletions.calling_off import CallingOff, annotation_of
from ._deletions.deletions import Deletions
from ._deletions.posting import Poster, threshold_of
from ._errors import ConfigurationError
from ._handlers import ResourceArg
from ._identity import OperatorIdentity
from ._kopf import body_of
from ._on import On
from ._renames.declared import Former, FormerDiffBase, FormerProgress, Rollout
from ._resources import Selector
from ._settings import GivenStorages
from ._undeclared import Undeclared
from ._unknown_states import refuse_strict
from ._unset import LEFT_OUT, LeftOut

if TYPE_CHECKING:
    from ._dedicated.uses import Use
    from ._description import Description
    from ._inventory import ByHand, InventoryEntry


class Finalizers:
    """The finalizers of one operator: its names, its decorators, and changes of its own entries.

    `configure` makes one and has Kopf apply it when the operator starts. Made directly it registers
    nothing, for operators that are embedded in another program: then call `apply` on the settings.

    Args:
        identity: Who the operator is.
        storages: Whether applying it sets the progress and the diff-base storages too. With False
            the operator's own are left as they are; they must be nobody else's.
        progress_storage, diffbase_storage: As in `configure`.
        watches_only: Whether the operator has said that it needs no finalizer.
        registry: Where its decorators register; Kopf's default registry when left out.
        former, former_dedicated, rollout, former_storage_prefix: As in `configure`.
        former_progress_storage, former_diffbase_storage, former_is_shared: As in `configure`.
        strict, events, skip_cleanup: As in `configure`.

    Raises:
        ConfigurationError: As in `configure`.

    Example:
        >>> identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
        >>> finalizers = Finalizers(identity)
        >>> settings = kopf.OperatorSettings()
        >>> finalizers.apply(settings)
        >>> settings.persistence.finalizer
        'mycompany.com/db-operator'
    """

    identity: OperatorIdentity
    """Who the operator is: `identity.storage_prefix` is the prefix of its annotations.

    Example:
        >>> finalizers.identity.storage_prefix
        'db-operator.mycompany.com'
    """

    storages: bool
    """Whether the identity sets the storages, too.

    Example:
        >>> finalizers.storages
        True
    """

    watches_only: bool
    """Whether the operator has said that it needs no finalizer.

    Example:
        >>> finalizers.watches_only
        False
    """

    on: On
    """The decorators: `create`, `resume`, `update`, `delete`, `field`, `event`, `daemon`, `timer`.

    Example:
        >>> @finalizers.on.delete("mygroup", "v1", "myresources", finalizer="backups")
        ... def drop_backups(**_): ...
    """

    def __init__(
        self,
        identity: OperatorIdentity,
        *,
        storages: bool = True,
        progress_storage: kopf.ProgressStorage | None = None,
        diffbase_storage: kopf.DiffBaseStorage | None = None,
        watches_only: bool = False,
        registry: kopf.OperatorRegistry | None = None,
        former: Iterable[str] = (),
        former_dedicated: Mapping[str, Iterable[str]] | None = None,
        rollout: Rollout = "switch",
        former_storage_prefix: str | LeftOut | None = LEFT_OUT,
        former_progress_storage: FormerProgress | None = None,
        former_diffbase_storage: FormerDiffBase | None = None,
        former_is_shared: bool = False,
        strict: bool = False,
        events: float | bool = False,
        skip_cleanup: str | None = None,
    ) -> None:
        self.identity = identity
        self.storages = storages
        self.watches_only = watches_only
        self._registry = registry
        self._by_hand: list[ByHand] = []
        given = Former.given(
            former=former,
            former_dedicated=former_dedicated,
            rollout=rollout,
            former_storage_prefix=former_storage_prefix,
            former_progress_storage=former_progress_storage,
            former_diffbase_storage=former_diffbase_storage,
            former_is_shared=former_is_shared,
        )
        dedicated = given.dedicated_names(identity)
        self._rename = given.rename(identity, storages=storages, watches_only=watches_only)
        self._undeclared = Undeclared(identity, self._known)
        keeps_former = rollout == "recognise"
        self._own = Finalizer(identity.finalizer, self.former, keeps_former)
        self._dedicated = DedicatedFinalizers(
            former=[Finalizer(name, those, keeps_former) for name, those in dedicated.items()],
            left=self.former,
            deletions=Deletions(
                identity.finalizer,
                own_names=frozenset(self._own.names),
                owns=self._owns,
                calling_off=CallingOff(identity, annotation_of(skip_cleanup)),
                poster=Poster(threshold_of(events)),
            ),
        )
        refuse_strict(strict, storages=storages, watches_only=watches_only)
        cleanups = Cleanups()
        self._application = Application(
            identity,
            storages=storages,
            given=GivenStorages.checked(progress_storage, diffbase_storage, storages=storages),
            watches_only=watches_only,
            rename=self._rename,
            rollout=given.rollout,
            strict=strict,
            dedicated=self._dedicated,
            cleanups=cleanups,
            undeclared=self._undeclared,
            describe=self.describe,
        )
        # The handlers for which Kopf puts the operator's own finalizer on.
        self._guarded: list[Use] = []
        self.on = On(
            identity,
            self._dedicated,
            cleanups,
            watches_only=watches_only,
            storages=storages,
            registry=registry,
            guarded=self._guarded,
            declared=lambda: self._application.declared(self._in_registry()),
        )

    @property
    def name(self) -> str:
        """The operator's own finalizer, which Kopf puts on and takes off.

        Example:
            >>> finalizers.name
            'mycompany.com/db-operator'
        """
        return self.identity.finalizer

    @property
    def former(self) -> tuple[str, ...]:
        """The names that the operator's own finalizer had before, and that are still recognised.

        Example:
            >>> finalizers.former
            ()
        """
        return self._rename.former if self._rename else ()

    @property
    def written(self) -> str:
        """The name that this release writes: `name`, or the former one with `rollout="recognise"`.

        For code that makes objects with the operator's finalizer on them. Such code must not write
        a name that the release before does not know, nor one that the next one does not.

        Example:
            >>> finalizers.written
            'mycompany.com/db-operator'
        """
        return self._own.written

    def name_for(self, purpose: str) -> str:
        """The dedicated finalizer for a purpose, or a full name that this operator may use.

        Raises:
            ConfigurationError: As `OperatorIdentity.finalizer_for`.

        Example:
            >>> finalizers.name_for("backups")
            'mycompany.com/db-operator.backups'
        """
        return self.identity.finalizer_for(purpose)

    def apply(self, settings: kopf.OperatorSettings) -> None:
        """Apply the identity to an operator's settings, before the operator starts.

        It sets the finalizer and, unless `storages=False`, the progress and the diff-base storage,
        and readies the dedicated finalizers of all handlers declared so far and later.

        Raises:
            ConfigurationError: There are former names, and this Kopf would not recognise them.

        Example:
            >>> settings = kopf.OperatorSettings()
            >>> finalizers.apply(settings)
            >>> settings.persistence.finalizer
            'mycompany.com/db-operator'
        """
        self._application.apply(settings, self._in_registry())

    def add(self, patch: kopf.Patch, purpose: str | None = None) -> None:
        """Put one of the operator's own finalizers on an object, through a handler's patch.

        See `add_finalizer`. A finalizer that a handler has declared with `finalizer=` needs no such
        call. One that is added by hand must be removed by hand. In a daemon or a timer it is sent
        again after a conflict, too, with the object's next event, whether that is called again or
        has ended. Kopf 1.44 ends a daemon or a timer whose patch has any function: there it needs
        Kopf 1.45.

        Without a purpose it is the operator's finalizer, which Kopf puts on and takes off itself.
        It is assumed that the operator has no handlers for such objects, or one that needs that
        finalizer: else Kopf takes it off whenever it sees it, and a handler that puts it on again
        each time never ends. So give a purpose in handlers.

        Raises:
            ConfigurationError: As `add_finalizer` and `name_for`; or there is no purpose, and the
                operator has said that it only watches.

        Example:
            >>> patch = kopf.Patch()
            >>> finalizers.add(patch, "snapshots")
            >>> patch.fns
            [AddFinalizer('mycompany.com/db-operator.snapshots')]
        """
        if purpose is None and self.watches_only:
            raise ConfigurationError(
                f"{self.name} was configured with finalizer=None, as an operator that only watches:"
                " Kopf takes its finalizer off every object, and would do so each time that this"
                ' puts it on. Give a purpose, as in finalizers.add(patch, "snapshots").'
                " [watches-only]"
            )
        self._watch(patch)
        addition = self._finalizer(purpose).addition(body_of(patch) or {}, patch)
        append(patch, self._dedicated.insisting(addition, patch))

    def remove(self, patch: kopf.Patch, purpose: str | None = None) -> None:
        """Take one of the operator's own finalizers off an object, through a handler's patch.

        See `remove_finalizer`. Its former names go with it. Without a purpose, what is said of
        `add` holds: where a handler needs the operator's finalizer, Kopf puts it on again.

        Raises:
            ConfigurationError: As `remove_finalizer` and `name_for`; also for a finalizer that a
                handler has declared with `finalizer=`. The library puts that on again in each
                cycle, and has no handler called before it is there.

        Example:
            >>> patch = kopf.Patch()
            >>> finalizers.remove(patch, "snapshots")
            >>> patch.fns
            [RemoveFinalizer('mycompany.com/db-operator.snapshots')]
        """
        finalizer = self._finalizer(purpose)
        users = [use for use in self._dedicated.uses if use.finalizer == finalizer.name]
        if users:
            raise ConfigurationError(
                f'The finalizer "{finalizer.name}" is declared by {users[0].handler_id}, so it goes'
                " by itself: taken off by a handler it would be put on again in each cycle, and no"
                " handler of changes be called any more. Leave this remove() out, or that"
                " finalizer=. [declared]"
            )
        self._watch(patch)
        for name in finalizer.names:
            append(patch, self._dedicated.insisting(RemoveFinalizer(name, patch), patch))

    def declare(
        self,
        purpose: str,
        *resource: ResourceArg,
        waits_for: str = "a handler to take it off",
        why: str | None = None,
        leaves: str | None = None,
    ) -> str:
        """Say which finalizer handlers put on by hand, with `add`: so that all who ask know it.

        It changes nothing about any object. The finalizer is then in the `inventory` and in the
        document, and `kopf-finalizers holders` and `uninstall` know it for one that is in use.

        Args:
            purpose: The purpose, or a full name, as `add` takes it.
            resource: The objects that may carry it, as decorators take it.
            waits_for: What must happen before a handler takes it off an object being deleted.
            why: What it is for, in one sentence.
            leaves: What stays behind when it is released by hand.

        Returns:
            The finalizer.

        Raises:
            ConfigurationError: As `name_for`.

        Example:
            >>> finalizers.declare(
            ...     "snapshots",
            ...     "mycompany.com",
            ...     "v1",
            ...     "databases",
            ...     waits_for="the snapshot to end",
            ... )
            'mycompany.com/db-operator.snapshots'
            >>> finalizers.inventory()[-1].waits_for
            'the snapshot to end'
        """
        from ._inventory import ByHand

        name = self.name_for(purpose)
        declared = ByHand(name, Selector(resource, ()), waits_for, why, leaves)
        if declared not in self._by_hand:
            self._by_hand.append(declared)
        return name

    def describe(self, body: Mapping[str, Any]) -> "Description":
        """Whose the finalizers of one object are, and whether it is stuck.

        Example:
            >>> body = {
            ...     "metadata": {
            ...         "deletionTimestamp": "2026-01-01T00:00:00Z",
            ...         "finalizers": ["kopf.zalando.org/KopfFinalizerMarker"],
            ...     }
            ... }
            >>> description = finalizers.describe(body)
            >>> description.foreign, description.is_stuck
            (('kopf.zalando.org/KopfFinalizerMarker',), True)
        """
        from ._description import describe

        former = [*self.former, *self._dedicated.former]
        return describe(body, self.identity, former=former, dedicated=self._dedicated_names())

    def _dedicated_names(self) -> list[str]:
        uses = [use.finalizer for use in self._dedicated.uses]
        return uses + [one.finalizer for one in self._by_hand]

    def _known(self) -> list[str]:
        return [*self._own.names, *self._dedicated_names(), *self._dedicated.former]

    def is_record(self, annotation: str) -> bool:
        """Whether an annotation of that name is a record of this operator.

        For code that copies annotations from one object to another: records are about the one
        object that has them, and a child that is made with them might count as handled. It knows
        the prefix of the identity, and in other places, former ones and the operator's own
        storages, what the handlers that are declared by now keep there.

        Example:
            >>> annotations = {
            ...     "team": "red",
            ...     "db-operator.mycompany.com/last-handled-configuration": "{}",
            ... }
            >>> [one for one in annotations if not finalizers.is_record(one)]
            ['team']
        """
        return self._application.is_record(annotation, self._in_registry())

    def inventory(self) -> "list[InventoryEntry]":
        """Every finalizer that the operator's handlers use: for its documentation.

        It has the handlers that are declared by now, with this object's `on` and with Kopf's own
        decorators: `kopf.on.delete`, unless it is `optional`, `kopf.on.daemon` and `kopf.on.timer`
        make Kopf put the operator's finalizer on their objects, too. What handlers put on by
        themselves, with `add`, is there if it is said with `declare`.

        `kopf-finalizers document` prints it.

        Example:
            >>> @finalizers.on.delete("mycompany.com", "v1", "databases")
            ... def drop_database(**_): ...
            >>> entry = finalizers.inventory()[0]
            >>> f"{entry.name} on {entry.resource} waits for {entry.waits_for}"
            'mycompany.com/db-operator on databases.v1.mycompany.com waits for drop_database ...'
        """
        from ._inventory import inventory_of, uses_of_kopf

        registry = self._in_registry()
        former = {self.name: self.former}
        return inventory_of(
            [*self._guarded, *uses_of_kopf(self.name, registry, self._guarded)],
            self._dedicated.uses,
            former | self._dedicated.former_names,
            self._by_hand,
        )

    def _in_registry(self) -> kopf.OperatorRegistry:
        return self._registry or kopf.get_default_registry()

    def _watch(self, patch: kopf.Patch) -> None:
        """Look after the objects of that kind, whoever's decorators the handlers there have."""
        body = body_of(patch) or {}
        if body.get("kind") and body.get("apiVersion"):
            group, _, version = body["apiVersion"].rpartition("/")
            options = (("group", group), ("version", version), ("kind", body["kind"]))
            self._dedicated.watch(self._in_registry(), Selector((), options))

    def _owns(self, name: str) -> bool:
        """Whether it is this operator's, whichever handler puts it on."""
        return self.identity.owns(name) or any(one.finalizer == name for one in self._by_hand)

    def _finalizer(self, purpose: str | None) -> Finalizer:
        """A finalizer that a handler changes by itself, with the names that it had before."""
        if purpose is None:
            return self._own
        finalizer = self._dedicated.finalizer(self.name_for(purpose))
        self._undeclared.changed(finalizer.names)
        return finalizer

    def __repr__(self) -> str:
        return f"<Finalizers of {self.name}>"
