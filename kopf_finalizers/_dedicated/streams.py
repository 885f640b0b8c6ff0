"""One object in several streams of Kopf: the finalizer is off when all of them need it no more.

An operator with handlers on two served versions of a kind, or on one kind in two groups, has a
stream of events for each, and every object comes in all of them. To Kopf (1.44 to 1.45) each stream
is a world of its own: one without a handler that needs the operator's finalizer takes it off, and
the one that finishes its cleanups first takes it off before the others have finished theirs.

So here it is known in which streams an object has been seen, by its uid; and what each of them
needs, by the filters of those of its handlers for which Kopf needs the finalizer. In a cycle of an
object with several streams

| the object | this stream | another stream | then |
| --- | --- | --- | --- |
| any | needs no finalizer | may still need it | the finalizer is hidden from Kopf |
| any | would take it off | may still need it | it stays, and this stream has finished |
| any | would take it off | has finished, or needs none | it goes |

A stream that is hidden from goes on as if nothing had been there: its other handlers are called. On
an object being deleted, progress is kept until the object goes: else a stream that has finished
would begin anew with each event of the others.

A stream may be late, by seconds where its connection was lost. That it needs the finalizer no more
counts when it has seen the deletion, too; of an object that is alive, the same version. And it may
need the finalizer of an object that it has not seen yet, where both have their objects in common:
other versions of a resource have, and resources of which one object was seen in both.

After a restart nothing has been seen. So an empty index (`kopf.index`) has Kopf list all resources
that may have objects in common before it handles any. Resources may have where the names that
decorators give them are similar; that those of two groups do have is known by uids alone.
"""

import weakref
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import kopf

from .._bodies import is_being_deleted, metadata_of, uid_of
from .._changes import has_effect, wake_up
from .._kopf import (
    answered,
    guarding_handlers_of,
    handles_changes,
    is_watched,
    other_versions,
    refuse_if_kopf_compares_otherwise,
)
from .._recognised import RecognisedFinalizer, names_of, unhidden
from .._resources import Selector, all_selectors, selector_of
from .._settings import logger
from .filters import FILTERS, Answer, Filters, Seen
from .leftovers import is_about, takes_off


@dataclass
class _Stream:
    """What is known of an object in one stream: whether it needs the finalizer, or did."""

    can_need: bool
    handles_changes: bool
    needs: Answer = None
    has_finished: bool = False
    version: str | None = None
    """The version of the object that was seen last."""

    has_seen_deletion: bool = False
    answers: Mapping[Hashable, Answer] = field(default_factory=dict)
    """Whether the filters of its handlers hold, as it has seen the object last."""

    expected: "dict[kopf.Resource, _Stream]" = field(default_factory=dict)
    """Other streams that there are, as long as the object was not seen in them."""

    def may_need(self, version: str, *, deleted: bool) -> bool:
        """Whether it may need the finalizer of an object that another stream sees like this."""
        if not self.can_need or self.has_finished:
            return False
        return self.needs is not False or self.is_late(version, deleted=deleted)

    def is_late(self, version: str, *, deleted: bool) -> bool:
        """Whether it has not seen what another stream sees."""
        return not self.has_seen_deletion if deleted else self.version != version


@dataclass(frozen=True)
class _Cycle:
    """One cycle of an object that has several streams."""

    patch: weakref.ref[kopf.Patch]
    logger: kopf.Logger
    version: str
    deleted: bool
    mine: _Stream
    others: dict[kopf.Resource, _Stream]

    @property
    def is_needed_elsewhere(self) -> bool:
        """Whether another stream may need the finalizer, and will still tell when it does not."""
        return any(
            # A version that is served no more has no stream, and nobody to wait for.
            one.may_need(self.version, deleted=self.deleted)
            and not (self.deleted and not is_watched(where))
            for where, one in self.others.items()
        )

    @property
    def ended(self) -> list[str]:
        """Streams that have needed it to the last, where no other one does: they have ended."""
        needed = (
            where
            for where, one in self.others.items()
            if one.can_need and one.needs is not False and not one.has_finished
        )
        return [str(where) for where in needed]

    @property
    def is_done(self) -> bool:
        """Whether this stream needs the finalizer of an object being deleted no more."""
        return self.deleted and (self.mine.needs is False or self.mine.has_finished)

    def others_are_at_work(self) -> bool:
        """Whether another stream that may need it knows of the deletion.

        One that does not may be late, or have failed before it has looked at the object.
        """
        return any(
            one.may_need(self.version, deleted=True) and one.has_seen_deletion and is_watched(where)
            for where, one in self.others.items()
        )


class Streams:
    """The streams of an operator's objects, and what is done about its own finalizer in each.

    Args:
        ask_at: Has Kopf ask about each event of a resource, and `look` asked then.
    """

    def __init__(self, ask_at: Callable[[kopf.OperatorRegistry, Selector], None]) -> None:
        self._ask_at = ask_at
        self._objects = dict[str, dict[kopf.Resource, _Stream]]()
        self._asked = list[Selector]()
        self._listed = list[Selector]()
        self._twins = dict[kopf.Resource, set[kopf.Resource]]()
        self._needs = dict[kopf.Resource, tuple[Filters, ...]]()
        self._warned = set[frozenset[kopf.Resource]]()
        self._registry: kopf.OperatorRegistry | None = None
        self._settings: kopf.OperatorSettings | None = None
        self._cycle: ContextVar[_Cycle | None] = ContextVar("streams", default=None)
        self._hidden: ContextVar[bool] = ContextVar("hidden", default=False)

    def apply(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> bool:
        """Take part where objects may have several streams; safe to call again.

        Returns:
            Whether the settings are others now: those that Kopf is to go by.

        Raises:
            ConfigurationError: This Kopf compares finalizers in a way that makes it impossible.
        """
        self._settings, self._registry = settings, registry
        self._needs.clear()
        selectors = all_selectors(registry)
        guarding = {selector_of(one) for one in guarding_handlers_of(registry)}
        similar = [one for one in selectors if any(map(one.is_similar, selectors))]
        if not guarding or not similar:
            return False
        for selector in similar:
            if selector not in self._asked:
                self._asked.append(selector)
                self._ask_at(registry, selector)
            if selector in guarding and selector not in self._listed:
                self._listed.append(selector)
                self._list_first(selector)
        finalizer = settings.persistence.finalizer
        if isinstance(finalizer, RecognisedFinalizer) and finalizer.may_hide:
            return False
        names = names_of(finalizer)
        hidden = RecognisedFinalizer(str.__str__(finalizer), names, self._hidden.get)
        refuse_if_kopf_compares_otherwise(hidden, names)
        persistence = settings.persistence
        persistence.finalizer = hidden
        persistence.diffbase_storage = _SharedDiffBase(persistence.diffbase_storage, self)
        return True

    @property
    def are_possible(self) -> bool:
        """Whether objects may have several streams here."""
        return bool(self._asked)

    def _list_first(self, selector: Selector) -> None:
        """Have Kopf list the objects there before it handles any object: of any resource."""
        index: Any = kopf.index
        index(
            *selector.args,
            **dict(selector.options),
            when=self._note_listed,
            registry=self._registry,
            id=f"kopf-finalizers/streams:{selector}",
        )(_index_nothing)

    def _note_listed(self, *, body: kopf.Body, resource: kopf.Resource, **_: Any) -> bool:
        """A filter of the index, which stays empty: it is asked before anything is handled."""
        self._stream(body, resource)
        return False

    def _stream(self, body: kopf.Body, resource: kopf.Resource) -> _Stream:
        streams = self._objects.setdefault(uid_of(body), {})
        if resource not in streams:
            streams[resource] = self._new(resource, bool(self._needs_of(resource)))
        return streams[resource]

    def _new(self, resource: kopf.Resource, can_need: bool) -> _Stream:  # noqa: FBT001
        assert self._registry is not None  # noqa: S101 - it is applied
        return _Stream(can_need, handles_changes(self._registry, resource))

    def _expected(self, resource: kopf.Resource) -> dict[kopf.Resource, _Stream]:
        """The streams in which each object of a resource will be seen, too."""
        assert self._registry is not None  # noqa: S101 - it is applied
        expected = {
            one: self._new(one, bool(guarding_handlers_of(self._registry, one)))
            for one in other_versions(resource)
        }
        for one in self._twins.get(resource, ()):
            expected[one] = self._new(one, bool(self._needs_of(one)))
        return expected

    def _needs_of(self, resource: kopf.Resource) -> tuple[Filters, ...]:
        """The filters of the handlers for which Kopf needs the finalizer there."""
        if resource not in self._needs:
            assert self._registry is not None  # noqa: S101 - it is applied
            self._needs[resource] = tuple(
                Filters(
                    "delete" if hasattr(handler, "reason") else "daemon",
                    {name: getattr(handler, name, None) for name in FILTERS},
                )
                for handler in guarding_handlers_of(self._registry, resource)
            )
        return self._needs[resource]

    def resources_of(self, body: kopf.Body, resource: kopf.Resource) -> tuple[kopf.Resource, ...]:
        """The resources in whose streams an object has been seen; this one is the first."""
        if not self._objects:
            return (resource,)
        known = self._objects.get(uid_of(body), {})
        return (resource, *(one for one in known if one != resource))

    def say(
        self, body: kopf.Body, resource: kopf.Resource, answers: Mapping[Hashable, Answer]
    ) -> None:
        """Note whether the filters of a stream's handlers hold for an object, for the others."""
        self._stream(body, resource).answers = answers

    def said(self, where: kopf.Resource, handler: Hashable, seen: Seen) -> Answer:
        """Whether those of a handler hold in another stream; None if that has not seen as much."""
        stream = self._objects.get(uid_of(seen.body), {}).get(where)
        version, deleted = _version(seen.body), seen.is_being_deleted
        if stream is None or stream.is_late(version, deleted=deleted):
            return None
        return stream.answers.get(handler)

    def begin(self) -> None:
        """Kopf begins a cycle: nothing is hidden that it does not ask about."""
        if self._asked:
            self._hidden.set(False)
            self._cycle.set(None)

    def look(self, kwargs: dict[str, Any]) -> None:
        """See what an object's streams need of the finalizer; safe to be asked again in a cycle."""
        if not self._asked:
            return
        body, resource, patch = kwargs["body"], kwargs["resource"], kwargs["patch"]
        mine = self._stream(body, resource)
        streams = self._objects[uid_of(body)]
        if kwargs["type"] == "DELETED":
            del streams[resource]
            if not streams:
                del self._objects[uid_of(body)]
            return
        seen_in = {where: one for where, one in streams.items() if where != resource}
        if seen_in:
            self._twins.setdefault(resource, set()).update(seen_in)
        self._see(body, resource, mine)
        others = {**mine.expected, **seen_in}
        if not others:
            return
        self._warn_of_changes(resource, mine, seen_in)
        assert self._settings is not None  # noqa: S101 - it is applied
        persistence = self._settings.persistence
        if not isinstance(persistence.diffbase_storage, _SharedDiffBase):
            # An operator with storages of its own has set it since.
            storage = persistence.diffbase_storage
            persistence.diffbase_storage = _SharedDiffBase(storage, self)
        seen = Seen(
            kwargs,
            progress=persistence.progress_storage,
            diffbase=persistence.diffbase_storage,
        )
        answers = [filters.hold(seen) for filters in self._needs_of(resource)]
        mine.needs = True if True in answers else None if None in answers else False
        cycle = _Cycle(
            patch=weakref.ref(patch),
            logger=kwargs["logger"],
            version=_version(body),
            deleted=is_being_deleted(body),
            mine=mine,
            others=others,
        )
        mine.has_finished = mine.has_finished and cycle.deleted
        self._cycle.set(cycle)
        self._drop_leftover(patch, body)
        self._hidden.set(mine.needs is False and cycle.is_needed_elsewhere)

    def _see(self, body: kopf.Body, resource: kopf.Resource, mine: _Stream) -> None:
        """Note how much of an object a stream has seen, and from time to time in which it will."""
        is_new, is_deleted = mine.version is None, is_being_deleted(body)
        if is_new or (is_deleted and not mine.has_seen_deletion):
            mine.expected = self._expected(resource)
        mine.version, mine.has_seen_deletion = _version(body), is_deleted

    def _warn_of_changes(
        self, resource: kopf.Resource, mine: _Stream, others: dict[kopf.Resource, _Stream]
    ) -> None:
        """Warn, once for each pair, that of two streams only one may be told of a change."""
        for where, one in others.items():
            pair = frozenset({resource, where})
            if mine.handles_changes and one.handles_changes and pair not in self._warned:
                self._warned.add(pair)
                first, second = sorted(map(str, pair))
                logger.warning(
                    "Handlers of changes on %s and on %s are about the same objects. Kopf keeps one"
                    " last state of an object, so the stream that is done first tells the other one"
                    " that there is nothing to do: a creation or a change may be handled by one of"
                    " them only. Have on.create, on.resume, on.update and on.field on one of the"
                    " two. Cleanups are called on both. [two-streams]",
                    first,
                    second,
                )

    def _drop_leftover(self, patch: kopf.Patch, body: kopf.Body) -> None:
        """Look through what could not be sent: by which stream, is not known.

        Kopf's removal or addition of the finalizer is dropped: who is for it puts it there again,
        and of one that is hidden Kopf does not see that it is on the object already. And Kopf calls
        no handlers in a cycle that begins with something left over.
        """
        if patch:
            assert self._settings is not None  # noqa: S101 - it is applied
            patch.fns[:] = [fn for fn in patch.fns if not is_about(self._own, fn, body)]
            if not has_effect(patch, body):
                wake_up(self._settings, body, patch)

    @property
    def _own(self) -> str:
        """The operator's own finalizer."""
        assert self._settings is not None  # noqa: S101 - it is applied
        return unhidden(self._settings.persistence.finalizer)

    def are_several(self, patch: kopf.Patch) -> bool:
        """Whether Kopf has several streams of the object.

        It keeps what it could not send for all of them in one place, where a stream that had
        nothing left over forgets what another one had.
        """
        cycle = self._cycle.get()
        return cycle is not None and cycle.patch() is patch

    def to_wait_for(self, patch: kopf.Patch) -> Callable[[], bool] | None:
        """Whether others are at work still; None where this stream waits for none of them."""
        cycle = self._cycle.get()
        if cycle is None or cycle.patch() is not patch:
            return None
        return cycle.others_are_at_work if cycle.is_done and cycle.is_needed_elsewhere else None

    def is_late(self, patch: kopf.Patch) -> bool:
        """Whether another stream has seen the object being deleted, and here it is alive still."""
        cycle = self._cycle.get()
        if cycle is None or cycle.patch() is not patch or cycle.deleted:
            return False
        return any(one.has_seen_deletion for one in cycle.others.values())

    def leave_last_state_to_others(self, patch: kopf.Patch) -> bool:
        """Whether the last state is another stream's to keep: one that handles changes."""
        cycle = self._cycle.get()
        if cycle is None or cycle.patch() is not patch or cycle.mine.handles_changes:
            return False
        return any(one.handles_changes for one in cycle.others.values())

    def hold(self, patch: kopf.Patch, body: kopf.Body) -> None:
        """Keep Kopf from taking the finalizer off, right before it would, while others need it."""
        cycle = self._cycle.get()
        if cycle is None or cycle.patch() is not patch:
            return
        kept = [fn for fn in patch.fns if not takes_off(self._own, fn, body)]
        if len(kept) < len(patch.fns):
            cycle.mine.has_finished = cycle.deleted
            if cycle.is_needed_elsewhere:
                patch.fns[:] = kept
            elif cycle.deleted and cycle.ended:
                cycle.logger.warning(
                    f"Releasing {self._own} though its cleanup has not succeeded: of"
                    f" {', '.join(cycle.ended)}, which Kopf does not watch any more. Most likely"
                    " that version is not served any more. [released-undone]"
                )

    @property
    def keep_progress(self) -> bool:
        """Whether a deletion's progress is kept until the object goes: others go on meanwhile."""
        cycle = self._cycle.get()
        return cycle is not None and cycle.deleted and cycle.patch() is not None


class _SharedDiffBase(kopf.MultiDiffBaseStorage):
    """The last state of objects, which all of their streams have in common.

    A stream without handlers of changes would note each new state at once, and the others would
    take it for handled: their `on.create` would never be called.
    """

    def __init__(self, storage: kopf.DiffBaseStorage, streams: Streams) -> None:
        super().__init__([storage])
        self._storage = storage
        self._streams = streams

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """What of an object counts as its state: of the whole object.

        Kopf's would hand on what is left without records, which does not tell where records are.
        """
        return answered(self._storage.build(body=body, extra_fields=extra_fields))

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep a state as handled, unless that is for others to say."""
        if not self._streams.leave_last_state_to_others(patch):
            super().store(body=body, patch=patch, essence=essence)


def _version(body: Mapping[str, Any]) -> str:
    """Which version of an object it is: a new one with each write."""
    return str(metadata_of(body).get("resourceVersion", ""))


async def _index_nothing(**_: Any) -> None:  # pragma: no cover - the filter always says no
    """What Kopf would call if the filter said yes."""
