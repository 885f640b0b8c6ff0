"""Dedicated finalizers in Kopf's handling cycle: when each goes on, and when it comes off.

Kopf (1.44 to 1.45) handles an object in cycles, one for each event. A cycle first asks which
`on.event` handlers match, then which others do, calls those, keeps their progress, and at its end
sends one patch. This module takes part at two places, both public:

* **Filters.** Each resource with dedicated finalizers has an `on.event` registration. Its `when=`
  callback notes which handlers match, puts additions and removals on `patch.fns`, where they go out
  with Kopf's own finalizer, and says no, so that Kopf never calls it. A handler with filters that
  are Kopf's to apply, as `labels=` is, notes its matches in a registration of its own, with these
  filters; so does a finalizer of several resources in each: then a last registration acts on them.
* **The progress storage.** Kopf tells it how each attempt of a handler ended. So that is where a
  cleanup is seen to be finished, whatever the handler is: sync or async, with sub-handlers, given
  up after its retries. And since Kopf asks it what handlers wait for, it keeps them waiting in the
  one cycle that puts a missing finalizer on the object: no handler runs before it is stored.

What happens to a finalizer F in a cycle, in the order of the checks:

| the object | F | then |
| --- | --- | --- |
| alive, a handler of F matches | not there | added, and Kopf's handlers wait for the next cycle |
| alive, no handler of F matches | there | removed |
| being deleted, a cleanup of F is not finished | there | stays until it is |
| being deleted, Kopf's own finalizer is not there | there | removed: no cleanup is called then |
| being deleted, otherwise | there | removed |
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, cast

import kopf

from .._bodies import finalizers_of, is_being_deleted
from .._changes import (
    AddFinalizer,
    Change,
    MergeIntoBody,
    RemoveFinalizer,
    ReplaceFinalizer,
    has_effect,
    wake_up,
)
from .._errors import ConfigurationError
from .._resources import Selector, ask_of_events
from .._settings import Unchanged, logger

Logger: TypeAlias = kopf.Logger

# What Kopf tells the filters of a changed object but not those of an event.
_CHANGES = frozenset({"old", "new", "diff", "reason"})

_STATE_DEPENDENT = frozenset({"create", "resume", "update", "delete", "field"})


_Place: TypeAlias = tuple[kopf.OperatorRegistry, Selector]


@dataclass(frozen=True)
class Use:
    """One handler's use of a dedicated finalizer, as it was declared."""

    finalizer: str
    kind: str
    fn: Callable[..., Any]
    selector: Selector
    registry: kopf.OperatorRegistry
    handler_id: str
    leaves: str | None = None

    @property
    def place(self) -> _Place:
        """Where Kopf asks about it."""
        return self.registry, self.selector

    @property
    def is_cleanup(self) -> bool:
        """Whether the finalizer waits for this handler to succeed."""
        return self.kind == "delete"

    def meets(self, other: "Use") -> bool:
        """Whether both may be cleanups of one object, by different functions.

        The same file may be loaded again, by a test say: that makes no difference to Kopf.
        """
        return (
            self.is_cleanup
            and other.is_cleanup
            and self.registry is other.registry
            and self.fn is not other.fn
            and self.selector.overlaps(other.selector)
            and not self._is_loaded_again(other)
        )

    def _is_loaded_again(self, other: "Use") -> bool:
        mine, theirs = _code_of(self.fn), _code_of(other.fn)
        return (
            mine is not None
            and mine == theirs
            and (self.finalizer, self.handler_id) == (other.finalizer, other.handler_id)
        )


def _code_of(fn: Callable[..., Any]) -> tuple[str, int] | None:
    """Where a function is written."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno)


@dataclass
class _Cycle:
    """What is known in one cycle of one object."""

    patch: kopf.Patch
    leftover: bool
    logger: Logger
    settings: kopf.OperatorSettings
    # For each finalizer that a handler wants here: the ids of its cleanups that match.
    matched: dict[str, set[str]] = field(default_factory=dict)
    # The same on an object being deleted, less the cleanups that are finished.
    pending: dict[str, set[str]] = field(default_factory=dict)
    # Those of them of which an event does not tell whether Kopf will call them.
    uncertain: set[str] = field(default_factory=set)
    # And under which of its names each finalizer is on the object.
    held: dict[str, list[str]] = field(default_factory=dict)
    # A finalizer is missing, so Kopf's handlers wait for the next cycle.
    postponed: bool = False
    # A finalizer goes from an object being deleted.
    released: bool = False
    # What Kopf's patch has of the progress.
    published: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def may_release(self) -> bool:
        """Whether progress waits to be sent with what is released."""
        return bool(self.pending or self.released)

    @functools.cached_property
    def progress(self) -> MergeIntoBody:
        """Progress that is written in a cycle which may release a finalizer."""
        return MergeIntoBody()


_Note: TypeAlias = Callable[[_Cycle, Mapping[str, Any]], None]


@dataclass(eq=False)
class _Registration:
    """What one filter does in each cycle: it notes matches, and then acts on finalizers.

    One does as much as it can, since Kopf makes ready for each all that a filter could ask for.
    """

    notes: list[_Note]
    names: list[str]


class DedicatedFinalizers:
    """The dedicated finalizers of one operator: what was declared, and what is done about it."""

    def __init__(
        self,
        *,
        former: Mapping[str, tuple[str, ...]] | None = None,
        keeps_former: bool = False,
        left: Iterable[str] = (),
    ) -> None:
        self.uses = list[Use]()
        # For each finalizer the names that it had; and whether objects still get the first one.
        self._former = dict(former or {})
        self._keeps_former = keeps_former
        # Names that are taken off whenever the operator's own finalizer is.
        self._left = frozenset(left)
        self._settings: kopf.OperatorSettings | None = None
        self._storage: _ObservingStorage | None = None
        self._registrations = list[_Registration]()
        # Those of them that note matches.
        self._at = dict[_Place, _Registration]()
        # Finalizers that are noted by more registrations than the one of a place.
        self._scattered = set[str]()
        self._cycle: ContextVar[_Cycle | None] = ContextVar("cycle", default=None)

    @property
    def former_names(self) -> dict[str, tuple[str, ...]]:
        """The names that each finalizer had before."""
        return dict(self._former)

    @property
    def former(self) -> list[str]:
        """All names that the finalizers had before."""
        return [name for names in self._former.values() for name in names]

    def watch(self, registry: kopf.OperatorRegistry, selector: Selector) -> None:
        """See to it that what is left over from a conflict keeps no handler there from its call."""
        if self._settings is not None:
            self._registered_at((registry, selector))

    def declare(self, use: Use, filters: Mapping[str, Any]) -> None:
        """Note a handler's use of a finalizer, and watch for the objects that the handler matches.

        Raises:
            ConfigurationError: Another cleanup waits with the same finalizer on the same resource,
                or the finalizer is listed as one that the operator has left.
        """
        if use.finalizer in self._left or use.finalizer in self.former:
            raise ConfigurationError(
                f'The finalizer "{use.finalizer}" of {use.handler_id} is listed as a former name,'
                " so it would be taken off while the handler still needs it: take it out of former="
                " or former_dedicated=, or give the handler another one."
            )
        for other in self.uses:
            if other.finalizer == use.finalizer and use.meets(other):
                raise ConfigurationError(
                    f'The finalizer "{use.finalizer}" of {use.selector} already waits for the'
                    f" cleanup {other.handler_id}, so it cannot wait for {use.handler_id} too: one"
                    " would take it off while the other is still to be done. Give each cleanup a"
                    " finalizer of its own."
                )
        known = {other.finalizer for other in self.uses}
        self.uses.append(use)
        options = dict(use.selector.options) | _lenient(filters)
        when = options.pop("when", None)
        wanted = None
        if use.kind in _STATE_DEPENDENT and options.get("field"):
            # Kopf also calls them where the field was as wanted when the object was last handled.
            wanted = FieldFilter(options.pop("field"), options.pop("value", None))
        note = _noting(use, when, wanted)
        is_filtered = options != dict(use.selector.options)
        if is_filtered:
            ask_of_events(
                functools.partial(self._note, note),
                use.selector.args,
                id=f"{use.finalizer}:{use.handler_id}",
                registry=use.registry,
                **options,
            )
        else:
            self._registered_at(use.place).notes.append(note)
        if is_filtered or any(
            other.finalizer == use.finalizer and other.place != use.place for other in self.uses
        ):
            self._scattered.add(use.finalizer)
        if self._settings is not None:  # declared late, from a startup handler
            if use.finalizer not in known:
                logger.info("Another dedicated finalizer of this operator: %s.", use.finalizer)
            self._decide_where([use.finalizer])
            self._observe(self._settings)

    def apply(self, settings: kopf.OperatorSettings, unchanged: Unchanged) -> None:
        """Take part in the cycles of an operator that is about to start."""
        first = self._settings is None
        self._settings = settings
        self._unchanged = unchanged
        if first:
            self._decide_where(dict.fromkeys(use.finalizer for use in self.uses))
        if self.uses:
            self._observe(settings)

    def _decide_where(self, names: Iterable[str]) -> None:
        """Act on finalizers where all their matches are noted by then, and nowhere else."""
        last = dict[_Place, list[str]]()
        for name in names:
            for registration in self._registrations:
                if name in registration.names:
                    registration.names.remove(name)
            for place in dict.fromkeys(use.place for use in self.uses if use.finalizer == name):
                if name in self._scattered:
                    last.setdefault(place, []).append(name)
                else:
                    self._at[place].names.append(name)
        for place, scattered in last.items():
            self._register(place, names=scattered)

    def _registered_at(self, place: _Place) -> _Registration:
        """The registration that notes matches where Kopf has nothing to filter."""
        if place not in self._at:
            self._at[place] = self._register(place)
        return self._at[place]

    def _register(self, place: _Place, *, names: Iterable[str] = ()) -> _Registration:
        registration = _Registration([], [*names])
        self._registrations.append(registration)
        registry, selector = place
        ask_of_events(
            functools.partial(self._ask, registration),
            selector.args,
            id=f"finalizers:{selector}",
            registry=registry,
            **dict(selector.options),
        )
        return registration

    def _note(self, note: _Note, /, **kwargs: Any) -> bool:
        """A filter that only notes a match."""
        note(self._current(kwargs["patch"], kwargs["logger"]), kwargs)
        return False

    def _ask(self, registration: _Registration, /, **kwargs: Any) -> bool:
        """A filter that never lets Kopf call the handler; safe to be asked again."""
        cycle = self._current(kwargs["patch"], kwargs["logger"])
        for note in registration.notes:
            note(cycle, kwargs)
        if kwargs["type"] == "DELETED":
            return False
        body: kopf.Body = kwargs["body"]
        if is_being_deleted(body):
            self._release(registration.names, body, cycle)
        else:
            self._guard(registration.names, body, cycle)
        if cycle.leftover and not has_effect(cycle.patch, body):
            wake_up(cycle.settings, body, cycle.patch)
        return False

    def _current(self, patch: kopf.Patch, logger: Logger) -> _Cycle:
        """This cycle: Kopf makes a patch for each, before it asks any filter."""
        cycle = self._cycle.get()
        if cycle is None or cycle.patch is not patch:
            settings = self._looked_after()
            cycle = _Cycle(patch, leftover=bool(patch), logger=logger, settings=settings)
            self._cycle.set(cycle)
        return cycle

    def _guard(self, names: Sequence[str], body: kopf.Body, cycle: _Cycle) -> None:
        """On an object that is alive: a finalizer is there if and only if a handler wants it."""
        present = finalizers_of(body)
        known = {name: (name, *self._former.get(name, ())) for name in names}
        every = {name for names in known.values() for name in names}
        _drop(cycle.patch, lambda fn: isinstance(fn, Change) and fn.name in every)
        for name, its_names in known.items():
            there = [one for one in its_names if one in present]
            if name not in cycle.matched:
                for one in there:
                    cycle.logger.debug(f"Releasing {one}: no handler of it matches any more.")
                    cycle.patch.fns.append(RemoveFinalizer(one))
                continue
            # While the former name is kept, a new one is left from before a rollback.
            keeps_former = self._keeps_former and its_names[1:]
            written = its_names[1] if keeps_former else name
            left = frozenset({name} if keeps_former else its_names[1:])
            if not there:
                cycle.patch.fns.append(AddFinalizer(written))
                cycle.postponed = True
            elif not left.isdisjoint(there):
                cycle.logger.info(f"Moving from {', '.join(there)} to {written}.")
                cycle.patch.fns.append(ReplaceFinalizer(written, former=left))

    def _release(self, names: Sequence[str], body: kopf.Body, cycle: _Cycle) -> None:
        """On an object being deleted: a finalizer is there while its cleanup is to be done."""
        settings, present = cycle.settings, finalizers_of(body)
        if cycle.leftover:
            _drop(cycle.patch, functools.partial(_is_refused, body=body, logger=cycle.logger))
        for name in names:
            there = [one for one in (name, *self._former.get(name, ())) if one in present]
            if not there:
                continue
            records = {
                handler_id: _deletion_record(settings, handler_id, body)
                for handler_id in cycle.matched.get(name, ())
            }
            pending = {one for one, record in records.items() if not _is_finished(record)}
            if pending and settings.persistence.finalizer in present:
                cycle.pending[name] = pending
                cycle.held[name] = there
                continue
            # What Kopf has not even begun, it may not have had to call.
            missed = {one for one in pending if records[one] or one not in cycle.uncertain}
            if missed:
                cycle.logger.warning(
                    f"Releasing {name} though its cleanup has not succeeded:"
                    f" {', '.join(sorted(missed))}. Kopf's own finalizer,"
                    f" {settings.persistence.finalizer}, is not on the object, so Kopf will"
                    " not call it any more."
                )
            _release(there, cycle)

    def _looked_after(self) -> kopf.OperatorSettings:
        """The settings, with the progress storage observed, whichever it is by now."""
        settings = self._settings
        if settings is None:
            raise ConfigurationError(
                "This operator has dedicated finalizers, but its identity was never applied to"
                " Kopf's settings, so nothing would put them on or take them off: call"
                " finalizers.apply(settings) before the operator starts, or use configure(), which"
                " does that."
            )
        if self.uses:
            known = self._storage
            if self._observe(settings) is known:
                known.refuse_other_settings()
        self._unchanged.check()
        return settings

    def _observe(self, settings: kopf.OperatorSettings) -> "_ObservingStorage":
        """Observe the progress storage, if it is another one than before."""
        storage = settings.persistence.progress_storage
        if self._storage is None or not _observes(storage, self._storage):
            self._storage = _ObservingStorage(storage, self._cycle)
            settings.persistence.progress_storage = self._storage
        return self._storage


class _ObservingStorage(kopf.MultiProgressStorage):
    """An operator's progress storage, with this module looking on.

    In a cycle that releases a finalizer, what the storage writes goes into the same JSON Patch as
    the release: Kopf would send it as a merge patch of its own before. So a release costs no
    request, and an operator killed in between cannot leave one without the other.

    A storage that writes the status is left to Kopf, which sends a status in requests of its own
    (as of a subresource). Those of a JSON Patch come last: a release would be stored before the
    progress, and Kopf would call the cleanup again when it sees the object in between.
    """

    def __init__(self, storage: kopf.ProgressStorage, cycle: ContextVar[_Cycle | None]) -> None:
        super().__init__([storage])
        self.observed = storage
        self._cycle = cycle
        # Whether Kopf has asked this storage in this cycle.
        self._asked: ContextVar[bool] = ContextVar("asked", default=False)

    def refuse_other_settings(self) -> None:
        """Notice that Kopf runs with other settings than those that were made ready.

        Raises:
            ConfigurationError: It does.
        """
        if not self._asked.get():
            raise ConfigurationError(
                "This operator has dedicated finalizers, and runs with other settings than those"
                " that its identity was applied to, so nothing would take them off in time: pass"
                " those to Kopf, as in kopf.run(settings=settings) or kopf.operator(...), or use"
                " configure(), which takes Kopf's own."
            )
        self._asked.set(False)

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        # Kopf asks for this in every cycle, before it asks any filter.
        self._asked.set(True)
        return self.observed.clear(essence=essence)

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        record = self.observed.fetch(key=key, body=body)
        cycle = self._cycle.get()
        if cycle is None:
            return record
        if record is not None and record.get("purpose") != "delete" and _is_pending(key, cycle):
            # Kopf would take what is left of a creation for this deletion's progress, and a
            # creation that has succeeded for a cleanup that has.
            return None
        if not cycle.postponed or _is_finished(record):
            return record
        # Not stored (see below), so it only has to be later than the end of this cycle.
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return cast("kopf.ProgressRecord", {**(record or {}), "delayed": later})

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        cycle = self._cycle.get()
        if cycle is None or not (cycle.postponed or cycle.may_release):
            self.observed.store(key=key, record=record, body=body, patch=patch)
        elif not cycle.postponed:
            self.observed.store(key=key, record=record, body=body, patch=cycle.progress.patch)
            if _is_finished(record):
                _finish(key, record, cycle)

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        cycle = self._cycle.get()
        if cycle is not None and cycle.may_release:
            patch = cycle.progress.patch
        self.observed.purge(key=key, body=body, patch=patch)

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        cycle = self._cycle.get()
        if (
            cycle is not None
            and cycle.may_release
            and cycle.patch is patch
            and cycle.progress in patch.fns
        ):
            # At the end of a cycle Kopf removes its last touch: that costs no request then, too.
            patch = cycle.progress.patch
        self.observed.touch(body=body, patch=patch, value=value)

    def flush(self) -> None:
        cycle = self._cycle.get()
        if cycle is not None and cycle.may_release:
            _publish(cycle)
        self.observed.flush()


def _publish(cycle: _Cycle) -> None:
    """Put the progress of a cycle where it goes: with what is released, or where Kopf has it."""
    progress, patch = cycle.progress, cycle.patch
    for path in cycle.published:
        _take_back(patch, path)
    cycle.published.clear()
    _drop(patch, lambda fn: fn is progress or fn in progress.patch.fns)
    if cycle.released and "status" not in progress.patch:
        patch.fns.append(progress)
    else:
        cycle.published.extend(_put(patch, progress.patch))
        patch.fns.extend(progress.patch.fns)


def _put(patch: dict[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Write values into a merge patch, and tell where."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from ((key, *path) for path in _put(patch.setdefault(key, {}), value))
        else:
            patch[key] = value
            yield (key,)


def _take_back(patch: Any, path: tuple[str, ...]) -> None:
    """Remove a value from a merge patch, and what it leaves empty."""
    key, *rest = path
    if not isinstance(patch, dict) or key not in patch:
        return  # a handler has replaced it meanwhile
    if rest:
        _take_back(patch[key], tuple(rest))
    if not rest or not patch[key]:
        del patch[key]


def _finish(handler_id: str, record: kopf.ProgressRecord, cycle: _Cycle) -> None:
    """A handler has ended, well or not: release what waited for it alone."""
    for name, pending in cycle.pending.items():
        if handler_id not in pending:
            continue
        pending.discard(handler_id)
        if not record.get("success"):
            cycle.logger.warning(
                f"The cleanup {handler_id} is given up and has not succeeded:"
                f" {record.get('message')}. {name} no longer waits for it."
            )
        if not pending:
            _release(cycle.held[name], cycle)


def _release(names: Iterable[str], cycle: _Cycle) -> None:
    cycle.released = True
    for name in names:
        if RemoveFinalizer(name) not in cycle.patch.fns:
            cycle.patch.fns.append(RemoveFinalizer(name))


def _is_finished(record: kopf.ProgressRecord | None) -> bool:
    return record is not None and bool(record.get("success") or record.get("failure"))


def _is_pending(key: str, cycle: _Cycle) -> bool:
    """Whether it is a cleanup that a finalizer waits for, or one of its sub-handlers."""
    ids = {one for pending in cycle.pending.values() for one in pending}
    return key in ids or any(key.startswith(f"{one}/") for one in ids)


def _deletion_record(
    settings: kopf.OperatorSettings, handler_id: str, body: kopf.Body
) -> kopf.ProgressRecord | None:
    """What is stored of a cleanup, by this process or by one before it."""
    key = cast("kopf.HandlerId", handler_id)
    record = settings.persistence.progress_storage.fetch(key=key, body=body)
    # A function that handles creations too has the same id for both.
    return record if record is not None and record.get("purpose") == "delete" else None


def _observes(storage: kopf.ProgressStorage, observing: _ObservingStorage | None) -> bool:
    """Whether a storage asks another one: where an operator has two `Finalizers`, both observe."""
    while isinstance(storage, _ObservingStorage):
        if storage is observing:
            return True
        storage = storage.observed
    return False


def _drop(patch: kopf.Patch, unwanted: Callable[[kopf.PatchFn], bool]) -> None:
    if patch.fns:
        patch.fns[:] = [fn for fn in patch.fns if not unwanted(fn)]


def _is_refused(fn: kopf.PatchFn, *, body: kopf.Body, logger: Logger) -> bool:
    """Whether a function left over would add a finalizer to an object being deleted.

    An API server refuses such a patch as a whole and Kopf keeps it for the next cycle, for ever:
    neither a cleanup would be called nor a finalizer removed.
    """
    raw = copy.deepcopy(dict(body))
    fn(cast("kopf.RawBody", raw))
    added = set(finalizers_of(raw)) - set(finalizers_of(body))
    if added and not isinstance(fn, Change):
        logger.debug(f"Dropping {fn!r}: the object is being deleted, and gets no {added} any more.")
    return bool(added) or isinstance(fn, AddFinalizer)


def _noting(use: Use, when: Callable[..., bool] | None, wanted: "FieldFilter | None") -> _Note:
    """What notes that a handler matches, where Kopf has not been told its filters."""
    parameters = () if when is None else inspect.signature(when).parameters.keys()
    asks = not _CHANGES.isdisjoint(parameters)

    def note(cycle: _Cycle, kwargs: Mapping[str, Any]) -> None:
        if wanted is not None and not wanted.matches(cycle.settings, **kwargs):
            return
        matches = True if when is None else None if asks else _match(when, kwargs)
        if matches is False:
            return
        cleanups = cycle.matched.setdefault(use.finalizer, set())
        if use.is_cleanup:
            cleanups.add(use.handler_id)
        if matches is None:
            cycle.uncertain.add(use.handler_id)

    return note


def _lenient(filters: Mapping[str, Any]) -> dict[str, Any]:
    """The filters, with callbacks that may ask for what an event does not tell."""

    def lenient(given: Any) -> Any:
        if not callable(given):
            return given
        return lambda value, **kwargs: _may_match(functools.partial(given, value), kwargs)

    found = dict(filters)
    for key in ("labels", "annotations"):
        if found.get(key):
            found[key] = {name: lenient(given) for name, given in found[key].items()}
    if "value" in found:
        found["value"] = lenient(found["value"])
    return found


def _may_match(when: Callable[..., bool], kwargs: Mapping[str, Any]) -> bool:
    """Whether a filter holds, or cannot be known from an event to hold.

    An event has no `old`, `new`, `diff` or `reason`. A filter that asks for one of these is taken
    to hold: then the finalizer guards an object too many rather than one too few.
    """
    return _match(when, kwargs) is not False


def _match(when: Callable[..., bool], kwargs: Mapping[str, Any]) -> bool | None:
    """Whether a filter holds; None where that cannot be known from an event."""
    try:
        # None too, since `is None` is the one question that an unknown cannot notice.
        return any(when(**kwargs, **dict.fromkeys(_CHANGES, it)) for it in (_UNKNOWN, None))
    except _UnknownError:
        return None


class FieldFilter:
    """A filter of a field, as Kopf applies it to handlers of changes (1.44 to 1.45).

    It holds where the field is as wanted, or was so when the object was last handled.
    """

    def __init__(self, name: str | Iterable[str], value: Any) -> None:
        self._path = tuple(name.split(".") if isinstance(name, str) else name)
        self._wanted = value

    def matches(self, settings: kopf.OperatorSettings, *, body: kopf.Body, **kwargs: Any) -> bool:
        """Whether it holds in this cycle."""
        kwargs["body"] = body
        if self._is_wanted(self._found(body), kwargs):
            return True
        last = settings.persistence.diffbase_storage.fetch(body=body)
        return self._is_wanted(self._found(last), kwargs)

    def _found(self, where: Any) -> Any:
        for key in self._path:
            if not isinstance(where, Mapping) or key not in where:
                return _ABSENT
            where = where[key]
        return where

    def _is_wanted(self, found: Any, kwargs: Mapping[str, Any]) -> bool:
        if self._wanted is None or self._wanted is kopf.PRESENT:
            return found is not _ABSENT
        if self._wanted is kopf.ABSENT:
            return found is _ABSENT
        if callable(self._wanted):
            return bool(self._wanted(found, **kwargs))
        return bool(self._wanted == found)


_ABSENT = object()


class _UnknownError(BaseException):
    """A filter has asked for something that an event does not tell.

    A filter that expects to fail, `except Exception`, must not take it for its own failure.
    """


class _Unknown:
    """In place of what an event does not tell: every use of it is noticed."""

    def _used(self, *_: Any) -> Any:
        raise _UnknownError

    __bool__ = __contains__ = __eq__ = __getattr__ = __getitem__ = __iter__ = __len__ = _used
    __hash__ = __str__ = __format__ = _used


_UNKNOWN = _Unknown()
