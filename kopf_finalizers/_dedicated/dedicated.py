"""Dedicated finalizers in Kopf's handling cycle: where each piece takes part.

Kopf (1.44 to 1.45) handles an object in cycles, one for each event. A cycle first asks which
`on.event` handlers match, then which others do, calls those, keeps their progress, and at its end
sends one patch. The library takes part at two places, both public:

* **A filter.** Each resource with dedicated finalizers has an `on.event` registration, as the
  resource was written and with no other filters. Its `when=` callback puts additions and removals
  on `patch.fns`, where they go out with Kopf's own finalizer, and says no, so that Kopf never calls
  it. Where a resource was written in several ways, the first one that is asked decides: `cycle.py`.
* **The progress storage**, which is told how each attempt of a handler ended: `progress.py`.
"""

import asyncio
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import kopf

from .._changes import Change, Finalizer, has_effect, wake_up
from .._deletions.deletions import Deletions, Sighting
from .._errors import ConfigurationError
from .._kopf import runs_daemons
from .._moves import Moves
from .._recognised import unhidden
from .._resources import HandledResources, Selector, ask_of_events
from .._settings import Unchanged, logger
from ..instrumentation._hooks import listen
from .cycle import Cycle, decide, give_up
from .effects import leave_out
from .ended import Remembering
from .filters import Seen
from .leftovers import look_through
from .pending import Pending
from .progress import ObservedProgress, is_observed_by
from .sent import LOST, WrittenObjects
from .streams import Streams
from .unasked import Unasked, WatchedProgress, own_of
from .uses import Place, Use, Uses, Wanted


class DedicatedFinalizers:
    """The dedicated finalizers of one operator: what was declared, and what is done about it.

    Args:
        former: Those that have had other names.
        left: Names that are taken off whenever the operator's own finalizer is.
        deletions: The objects being deleted that the operator holds.
    """

    def __init__(
        self,
        *,
        former: Iterable[Finalizer] = (),
        left: Iterable[str] = (),
        deletions: Deletions,
    ) -> None:
        self._uses = Uses(former, left)
        self._deletions = deletions
        self._resources: HandledResources | None = None
        self._places = set[Place]()
        self._registries = set[kopf.OperatorRegistry]()
        self._written = WrittenObjects()
        self.unasked: Unasked = Unasked(self._written)
        self._settings: kopf.OperatorSettings | None = None
        self._storage: ObservedProgress | None = None
        self._cycle: ContextVar[Cycle | None] = ContextVar("cycle", default=None)
        self._streams = Streams(lambda *place: self._ask_at(place))
        self._pending = Pending()

    @property
    def uses(self) -> list[Use]:
        """All uses that were declared."""
        return self._uses.declared

    @property
    def former_names(self) -> dict[str, tuple[str, ...]]:
        """The names that each finalizer had before."""
        return self._uses.former_names

    @property
    def former(self) -> list[str]:
        """All names that the finalizers had before."""
        return [name for names in self.former_names.values() for name in names]

    def finalizer(self, name: str) -> Finalizer:
        """A finalizer with the names that it had."""
        return self._uses.finalizer(name)

    def watch(self, registry: kopf.OperatorRegistry, selector: Selector) -> None:
        """See to it that what is left over from a conflict keeps no handler there from its call."""
        if self._settings is not None:
            self._ask_at((registry, selector))

    def insisting(self, change: Change, patch: kopf.Patch) -> Change:
        """The same change, which comes through also if a daemon's or a timer's patch is lost."""
        cycle = self._cycle.get()  # a daemon's is the one that has started it
        if cycle is not None and cycle.patch is patch:
            return change  # Kopf keeps it for the next cycle
        return dataclasses.replace(change, sending=functools.partial(self._sending, cycle))

    def _sending(self, cycle: Cycle | None, change: Change, body: Mapping[str, Any]) -> None:
        self._pending.note(change, body)
        if cycle is not None and self._settings is not None and change.has_effect(body):
            progress = own_of(self._settings.persistence.progress_storage)
            self._written.expect(cycle, body, self._settings, progress)

    def declare(self, use: Use) -> None:
        """Note a handler's use of a finalizer, and have Kopf ask about the objects there.

        Raises:
            ConfigurationError: Another cleanup waits with the same finalizer on the same resource,
                or the finalizer is listed as one that the operator has left.
        """
        known = {other.finalizer for other in self.uses}
        self._uses.declare(use)
        self._ask_at(use.place)
        if self._settings is not None:  # declared late, from a startup handler
            if use.finalizer not in known:
                logger.info("Another dedicated finalizer of this operator: %s.", use.finalizer)
            self._observe(self._settings)
        if use.release_after is not None:
            self._deletions.is_wanted = True
            self.begin()

    def prepare(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> bool:
        """Change the settings where objects may have several streams, and tell whether.

        Raises:
            ConfigurationError: This Kopf compares finalizers in a way that makes it impossible.
        """
        changed = self._streams.apply(settings, registry)
        if changed and self._settings is not None:
            self._observe(settings)
        return changed

    def apply(
        self,
        settings: kopf.OperatorSettings,
        unchanged: Unchanged,
        registry: kopf.OperatorRegistry,
        moves: Moves,
    ) -> None:
        """Take part in the cycles of an operator that is about to start."""
        self._settings = settings
        self._moves = moves
        self._unchanged = unchanged
        self._registry = registry
        self._deletions.reset()
        self._written.reset()
        self._pending.reset()
        if self.uses or self._streams.are_possible:
            self._observe(settings)
        listen(self)
        self.begin()

    def begin(self) -> None:
        """Look at all objects of the operator, if somebody wants to know which it holds."""
        if self._settings is None or not self._deletions.is_active:
            return
        self._observe(self._settings)
        if self._resources is None:
            registry = self._registry
            self._resources = HandledResources(
                functools.partial(self._ask_of_deletions, registry),
                purpose="deletions",
                registry=registry,
                is_asked=lambda one: any(
                    place == registry and selector.parts() == one.parts()
                    for place, selector in self._places
                ),
            )

            @kopf.on.cleanup(registry=registry, id="kopf-finalizers/deletions")
            def forget(**_: Any) -> None:
                self._deletions.reset()

        self._resources.ask()

    def _ask_at(self, place: Place) -> None:
        if place in self._places:
            return
        registry, selector = place
        self._places.add(place)
        self._rest_in_the_end(registry)
        ask_of_events(
            functools.partial(self._ask, registry),
            selector.args,
            id=f"finalizers:{selector}",
            registry=registry,
            **dict(selector.options),
        )

    def look_on(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """Take part where no filter is asked about objects; when all startup handlers have run."""
        persistence = settings.persistence
        if not isinstance(persistence.progress_storage, WatchedProgress):
            storage = persistence.progress_storage
            persistence.progress_storage = WatchedProgress(storage, settings, self.unasked)
        self._rest_in_the_end(registry)

    def _rest_in_the_end(self, registry: kopf.OperatorRegistry) -> None:
        """Have nothing sent when an operator has stopped."""
        if registry not in self._registries:
            self._registries.add(registry)

            @kopf.on.cleanup(registry=registry, id="kopf-finalizers/written")
            async def rest(**_: Any) -> None:
                sending = [*self._written.reset(), *self._moves.rest()]
                # Kopf closes its client after that.
                await asyncio.gather(*sending, return_exceptions=True)

    def _ask_of_deletions(
        self,
        registry: kopf.OperatorRegistry,
        /,
        *,
        type: str | None,  # noqa: A002 - Kopf's name
        body: kopf.Body,
        **kwargs: Any,
    ) -> bool:
        """The same filter where no finalizer is declared: most objects are not being deleted."""
        if self._deletions.concern(type, body):
            self._ask(registry, type=type, body=body, **kwargs)
        return False

    def _ask(self, registry: kopf.OperatorRegistry, /, **kwargs: Any) -> bool:
        """A filter that never lets Kopf call the handler; safe to be asked again."""
        patch: kopf.Patch = kwargs["patch"]
        cycle = self._current()
        if cycle is not None and cycle.patch is patch:
            return False  # it was written in another way, too
        settings, leftover = self._looked_after(), bool(patch)
        persistence = settings.persistence
        progress = own_of(persistence.progress_storage)
        self._streams.look(kwargs)
        written = self._written.see(kwargs, settings, progress, leftover=leftover)
        if written is not None and (others := self._streams.to_wait_for(patch)) is not None:
            self._written.wait(written, others)
        cycle = Cycle(
            patch,
            kwargs["resource"],
            kwargs["logger"],
            self._moves,
            progress_first=written is not None and written.has_lost,
        )
        self._cycle.set(cycle)
        body: kopf.Body = kwargs["body"]
        resource, *twins = self._streams.resources_of(body, kwargs["resource"])
        own_wanted = wanted = self._uses.of(registry, resource)
        if twins:
            wanted = self._uses.shared(registry, resource, twins, self._streams.said, body)
        cycle.wanted = wanted
        if self._deletions.concern(kwargs["type"], body):
            self._look(kwargs, wanted, registry, progress, settings)
            progress = self._deletions.reading(progress)
        if written is not None and written.ended:
            progress = Remembering(progress, written.ended)
        if kwargs["type"] == "DELETED":
            self._moves.forget(body)
            self._pending.forget(body)
            return False
        if leftover:
            look_through(patch, body, wanted, kwargs["logger"])
        self._pending.take_up(patch, body)
        seen = Seen(kwargs, progress=progress, diffbase=persistence.diffbase_storage)
        if self._streams.are_possible:
            uses = [use for one in own_wanted for use in one.uses]
            self._streams.say(body, resource, {use: use.filters.hold(seen) for use in uses})
        if written is not None and seen.is_being_deleted:
            elsewhere = self._uses.elsewhere(registry, kwargs["resource"], wanted)
            cycle.elsewhere = {
                name: elsewhere[name] for name in seen.finalizers if name in elsewhere
            }
            cycle.keeps_progress = bool(cycle.elsewhere) or runs_daemons(
                registry, kwargs["resource"]
            )
            for one in wanted:
                if written.is_taken_off(one.finalizer, seen.finalizers):
                    written.ended.update(give_up(one, seen, patch, kwargs["logger"]))
            cycle.taken = written.taken
        own = unhidden(persistence.finalizer)
        for one in wanted:
            decide(one, seen, cycle, patch, own)
        if self._streams.is_late(patch):
            # A creation would undo what a cleanup has done; Kopf has the deletion here, too, soon.
            cycle.postponed = True
        if written is not None and leftover:
            several = self._streams.are_several(patch)  # another one may need it still
            # Who has lost so often once will do so again.
            enough = 1 if written.taken else LOST
            if written.lost >= enough and not patch.keys() and not several:
                self._written.overtake(written)
            leave_out(patch, written.taken, own)
            if not has_effect(patch, body) and not written.is_overtaking:
                wake_up(settings, body, patch)
        return False

    def _look(
        self,
        kwargs: Mapping[str, Any],
        wanted: Iterable[Wanted],
        registry: kopf.OperatorRegistry,
        progress: kopf.ProgressStorage,
        settings: kopf.OperatorSettings,
    ) -> None:
        """Have it seen that an object is being deleted, or has gone."""
        self._deletions.look(
            Sighting(
                event=kwargs["type"],
                body=kwargs["body"],
                resource=kwargs["resource"],
                registry=registry,
                logger=kwargs["logger"],
                progress=progress,
                settings=settings,
                cleanups=[
                    # The same handler may have to do with several streams.
                    (name, tuple(dict.fromkeys(use for use in one.uses if use.is_cleanup)))
                    for one in wanted
                    for name in one.finalizer.names
                ],
            )
        )

    def _current(self) -> Cycle | None:
        """What is known in the current cycle, unless it is over."""
        cycle = self._cycle.get()
        return cycle if cycle is not None and cycle.patch is not None else None

    def _looked_after(self) -> kopf.OperatorSettings:
        """The settings, with the progress storage observed, whichever it is by now."""
        settings = self._settings
        if settings is None:
            raise ConfigurationError(
                "This operator has dedicated finalizers, but its identity was never applied to"
                " Kopf's settings, so nothing would put them on or take them off: call"
                " finalizers.apply(settings) before the operator starts, or use configure(), which"
                " does that. [not-applied]"
            )
        if self.uses:
            known = self._storage
            if self._observe(settings) is known:
                known.refuse_other_settings()
        self._unchanged.check()
        return settings

    def _observe(self, settings: kopf.OperatorSettings) -> ObservedProgress:
        """Observe the progress storage, if it is another one than before."""
        storage = settings.persistence.progress_storage
        if self._storage is None or not is_observed_by(storage, self._storage):
            self._storage = ObservedProgress(
                storage, settings, self._current, self._deletions, self._streams, self.unasked
            )
            settings.persistence.progress_storage = self._storage
        return self._storage
