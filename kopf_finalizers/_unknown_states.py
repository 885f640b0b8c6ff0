"""Objects that were handled before, by a release whose records this one does not find.

Kopf (1.44 to 1.45) takes an object without a last state for a new one. Where an operator that runs
on a cluster has kept its records in another place than it says, `on.create` is called again for
every object. It shows: such an object is older than the process, carries the operator's own
finalizer or a former one, and has an annotation that looks like a record, in a place that is not
known. Without such an annotation it is a creation that was cut short, and `on.create` is right.

What looks like a record may be another Kopf operator's. It is taken for that where this library has
said so beside it, and where a finalizer that is not this operator's has the annotation's domain.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf

from ._bodies import finalizers_of, is_being_deleted, name_of
from ._errors import ConfigurationError
from ._kopf import answered, parts_on_object
from ._moves import Moves
from ._own_records import OWNER
from ._record_names import names_of_progress
from ._records_of_others import KOPFS_KEY, last_states_in, progress_in
from ._resources import HandledResources, handler_ids
from ._settings import logger


class UnknownStates:
    """Warns before `on.create` is called for an object that looks handled, or has it wait.

    Args:
        names: The operator's finalizer and its former ones.
        former_places: Where its records were, if that was said.
        strict: Whether the handlers of such an object wait.
    """

    def __init__(
        self, names: Collection[str], former_places: Iterable[object], *, strict: bool
    ) -> None:
        self._names = frozenset(names)
        self._own_domains = frozenset(one for name in names for one in _domains_of(name))
        self._former_places = tuple(former_places)
        self._is_strict = strict
        self._resources: HandledResources | None = None
        self._warned = set[tuple[str, str]]()
        # Of objects with such an annotation: whether it is this operator's, as far as it shows.
        self._verdicts = dict[str, bool]()

    def apply(
        self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry, moves: Moves
    ) -> None:
        """Look on at these settings, whose storages are the operator's by now."""
        persistence = settings.persistence
        self._registry = registry
        self._moves = moves
        self._progress = persistence.progress_storage
        self._diffbase = persistence.diffbase_storage
        parts = [
            part
            for one in (self._progress, self._diffbase, *self._former_places)
            for part in parts_on_object(one)
        ]
        self._states = [one for one in parts if isinstance(one, kopf.AnnotationsDiffBaseStorage)]
        self._insides = tuple(f"{one.prefix}/" for one in parts if hasattr(one, "prefix"))
        if self._is_strict:
            persistence.progress_storage = WaitingProgress(self._progress, self)
            persistence.diffbase_storage = WaitingDiffBase(self._diffbase, self)
        elif hasattr(self._diffbase, "is_missing"):  # of this library: it is asked in each cycle
            self._diffbase.is_missing = self.look_at
        else:
            self._watch()

    def _watch(self) -> None:
        """Have each object looked at by a filter."""
        if self._resources is None:
            purpose = "unknown-states"
            self._resources = HandledResources(self._ask, purpose=purpose, registry=self._registry)
        self._resources.ask()

    def _ask(self, *, body: kopf.Body, **_: Any) -> bool:
        """A filter that never lets Kopf call the handler."""
        if answered(self._diffbase.fetch(body=body)) is None:
            self.look_at(body)
        return False

    def look_at(self, body: kopf.Body) -> None:
        """Look at an object without a last state in any place that is known."""
        if is_being_deleted(body):
            self.forget(body)
            return
        uid = body["metadata"].get("uid")
        if uid in self._verdicts:
            return
        states, progress = self._found(body)
        if not states and not progress:
            return
        # What carries nothing of this operator when it is seen first has been none of its objects.
        carried = [name for name in finalizers_of(body) if name in self._names]
        is_new = self._moves.is_younger(body) or self._is_being_created(body)
        self._verdicts[uid] = bool(carried) and not is_new
        if self._verdicts[uid]:
            self._tell_once(body, carried[0], states, progress)

    def waits(self, body: kopf.Body) -> bool:
        """Whether the handlers of an object wait; its cleanups never do."""
        is_unknown = self._verdicts and self._verdicts.get(body["metadata"].get("uid"))
        return bool(is_unknown) and not is_being_deleted(body)

    def forget(self, body: kopf.Body) -> None:
        """Forget an object: it has a last state by now, or is going."""
        if self._verdicts:
            self._verdicts.pop(body["metadata"].get("uid"), None)

    def _found(self, body: kopf.Body) -> tuple[list[str], list[str]]:
        """The annotations that look like this operator's, in places that are not known.

        First those of last states, then those of progress.
        """
        annotations: Mapping[str, Any] = body["metadata"].get("annotations") or {}
        states, progress = last_states_in(annotations, body), list[str]()
        if states:
            known = {
                key
                for storage in self._states
                for one in (None, body)
                for key in storage.make_keys(storage.key, body=one)
            }
            states = [one for one in states if not (one in known or self._is_anothers(one, body))]
        elsewhere = [one for one in progress_in(annotations) if not one.startswith(self._insides)]
        if elsewhere:
            names = names_of_progress(handler_ids(self._registry), body)
            elsewhere = [one for one in elsewhere if one.rpartition("/")[2] in names]
            progress = [one for one in elsewhere if not self._is_anothers(one, body)]
        return states, progress

    def _is_anothers(self, key: str, body: kopf.Body) -> bool:
        domain = key.rpartition("/")[0]
        if domain in self._own_domains:
            return False
        said = any(one.startswith(f"{domain}/{OWNER}") for one in body["metadata"]["annotations"])
        return said or any(
            domain in _domains_of(name) for name in finalizers_of(body) if name not in self._names
        )

    def _is_being_created(self, body: kopf.Body) -> bool:
        """Whether a creation is known to be under way."""
        keys = cast("list[kopf.HandlerId]", handler_ids(self._registry))
        records = (answered(self._progress.fetch(key=key, body=body)) for key in keys)
        return any(one is not None and one.get("purpose") == "create" for one in records)

    def _tell_once(
        self, body: kopf.Body, finalizer: str, states: list[str], progress: list[str]
    ) -> None:
        resource = (str(body.get("apiVersion")), str(body.get("kind")))
        if resource in self._warned:
            return
        self._warned.add(resource)
        told = (
            *resource,
            finalizer,
            name_of(body),
            ", ".join([*states, *progress]),
            _said(states, progress),
        )
        if self._is_strict:
            logger.error(
                "Handlers wait on objects of %s %s that carry %s and no last state where this"
                " operator looks for one (%s is one): there are annotations that look like records"
                " of an earlier release, %s, and on.create would be called again. If they are, give"
                " configure() %s. If they are another operator's, leave strict=True out until these"
                " objects are handled. Deletions go on. [unknown-records]",
                *told,
            )
        else:
            logger.warning(
                "Objects of %s %s carry %s and no last state where this operator looks for one (%s"
                " is one), so on.create is called for them, as for new ones. But there are"
                " annotations that look like records of an earlier release: %s. If they are, stop"
                " this operator, and give configure() %s. If they are another operator's, nothing"
                " is wrong. With strict=True handlers wait in such a case. [unknown-records]",
                *told,
            )


def refuse_strict(strict: object, *, storages: bool, watches_only: bool) -> None:
    """Refuse `strict` where nothing could be checked.

    Raises:
        ConfigurationError: The storages are not the identity's, or there is no finalizer.
    """
    if strict and not storages:
        raise ConfigurationError(
            "strict=True is about records in storages that the identity sets, so it does not go"
            " with storages=False: leave one of the two out. [configure-arguments]"
        )
    if strict and watches_only:
        raise ConfigurationError(
            "strict=True tells by the operator's finalizer which objects were handled, so it does"
            " not go with finalizer=None: leave strict= out. [configure-arguments]"
        )


def _domains_of(finalizer: str) -> tuple[str, str]:
    """Where the operator of that finalizer may keep records: by usage, and by this library."""
    domain, slash, name = finalizer.rpartition("/")
    return (domain, f"{name}.{domain}") if slash else (name, name)


def _said(states: Iterable[str], progress: Iterable[str]) -> str:
    """What says in `configure` that they were there."""
    places, prefixes = list[str](), set[str]()
    for key in states:
        prefix, _, name = key.rpartition("/")
        if name.startswith(KOPFS_KEY):
            places.append(f'former_storage_prefix="{prefix}"')
            prefixes.add(prefix)
        else:
            storage = f'kopf.AnnotationsDiffBaseStorage(prefix="{prefix}", key="{name}")'
            places.append(f"former_diffbase_storage={storage}")
    others = {key.rpartition("/")[0] for key in progress} - prefixes
    more = [f'former_progress_storage="{prefix}"' for prefix in sorted(others)]
    return " and ".join(filter(None, [" or ".join(places), " or ".join(more)]))


class WaitingProgress(kopf.MultiProgressStorage):
    """An operator's progress storage, by which the handlers of some objects wait."""

    def __init__(self, storage: kopf.ProgressStorage, states: UnknownStates) -> None:
        super().__init__([storage])
        self.observed = storage
        self._states = states

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come; not so far that it would be called."""
        if self._states.waits(body):
            # Never stored, and asked again at the next event. So it is later than Kopf's patience.
            later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            return cast("kopf.ProgressRecord", {"delayed": later})
        return self.observed.fetch(key=key, body=body)

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        """Keep how far a handler has come."""
        if not self._states.waits(body):
            self.observed.store(key=key, record=record, body=body, patch=patch)

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Change something on the object, so that Kopf sees it again, unless that helps nothing."""
        if value is None or not self._states.waits(body):
            self.observed.touch(body=body, patch=patch, value=value)

    def flush(self) -> None:
        """Write what is kept elsewhere."""
        self.observed.flush()


class WaitingDiffBase(kopf.MultiDiffBaseStorage):
    """An operator's diff-base storage, which tells of an object that has no last state."""

    def __init__(self, storage: kopf.DiffBaseStorage, states: UnknownStates) -> None:
        super().__init__([storage])
        self.observed = storage
        self._states = states

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """What of an object counts as its state."""
        return self.observed.build(body=body, extra_fields=extra_fields)

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """What was handled last."""
        essence = answered(self.observed.fetch(body=body))
        if essence is None:
            self._states.look_at(body)
        else:
            self._states.forget(body)
        return essence

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep what is handled, unless nothing was."""
        if not self._states.waits(body):
            self.observed.store(body=body, patch=patch, essence=essence)
