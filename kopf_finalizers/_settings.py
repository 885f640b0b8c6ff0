"""An identity applied to Kopf's settings: a finalizer and storages that are nobody else's.

An identity is three things to Kopf (1.44 to 1.45): the finalizer, the progress storage, where
handlers' attempts are kept, and the diff-base storage, where the last handled state is kept. A
unique finalizer alone is not enough: with a shared diff-base storage one operator takes the other's
record for its own, and never calls its `on.create`. For the same reason the storages read and write
under the identity's own prefix and nowhere else: a fallback to Kopf's default place would believe
another operator's record.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

import kopf

from ._bodies import finalizers_of, metadata_of, name_of
from ._errors import ConfigurationError
from ._handler_ids import can_be_kept, refusal_of
from ._identity import OperatorIdentity
from ._kopf import changing_handlers_of, guarding_handlers_of, kind_of, parts_on_object
from ._names import KOPF_FINALIZER as KOPF_FINALIZER
from ._own_records import OwnDiffBase, OwnProgress
from ._resources import HandledResources

KOPF_PREFIX = "kopf.zalando.org"
"""The prefix of the annotations of every Kopf operator that does not choose one."""

logger = logging.getLogger("kopf_finalizers")


def apply_identity(
    settings: kopf.OperatorSettings,
    identity: OperatorIdentity,
    *,
    storages: bool = True,
    given: "GivenStorages",
    look_at: Callable[[kopf.Body], None],
    ids: "HandlerIds",
) -> None:
    """Set the finalizer and, unless `storages=False`, the two storages: the identity's or `given`.

    An operator that only watches gets a unique finalizer too, which it never writes: Kopf takes
    *its* finalizer off each object on which it has nothing to do, so with Kopf's default name it
    would take other operators' off.
    """
    settings.persistence.finalizer = identity.finalizer
    if not storages:
        return
    prefix = identity.storage_prefix
    diffbase, options = given.diffbase, dict[str, Any]()
    if type(diffbase) is kopf.AnnotationsDiffBaseStorage and diffbase.prefix == prefix:
        # The identity's own place with other options: its records say whose they are, too.
        options = {"key": diffbase.key, "ignored_fields": diffbase.ignored_fields}
        diffbase = None
    own = OwnDiffBase(prefix, look_at, **options)
    settings.persistence.diffbase_storage = diffbase or own
    settings.persistence.progress_storage = given.progress or OwnProgress(
        prefix, ids.look_at, state=own.key
    )


@dataclass(frozen=True)
class GivenStorages:
    """The storages that an operator has given in place of the identity's, if any."""

    progress: kopf.ProgressStorage | None = None
    diffbase: kopf.DiffBaseStorage | None = None

    @classmethod
    def checked(cls, progress: object, diffbase: object, *, storages: bool) -> Self:
        """As they were given.

        Raises:
            ConfigurationError: One is none, or there are to be none.
        """
        for what, one, kind in (
            ("progress_storage", progress, kopf.ProgressStorage),
            ("diffbase_storage", diffbase, kopf.DiffBaseStorage),
        ):
            if one is not None and not isinstance(one, kind):
                raise ConfigurationError(
                    f"{what}={one!r} must be a kopf.{kind.__name__}, as Kopf takes it in"
                    f" settings.persistence.{what}. [given-storage]"
                )
            if one is not None and not storages:
                raise ConfigurationError(
                    f"{what}= is set, so it does not go with storages=False, which leaves the"
                    " operator's storages alone: leave one of the two out. [given-storage]"
                )
        return cls(cast("Any", progress), cast("Any", diffbase))


_KOPFS_PLACES = {KOPF_PREFIX, "status.kopf.progress", "status.kopf.last-handled-configuration"}
"""Where Kopf's storages keep records when they are told no place (Kopf 1.44 to 1.45)."""


def warn_of_shared_places(
    progress: kopf.ProgressStorage | None, diffbase: kopf.DiffBaseStorage | None
) -> None:
    """Warn of records in Kopf's default places, where those of any Kopf operator are."""
    kept = {"progress": _places_of(progress), "last states": _places_of(diffbase)}
    shared = {what: _KOPFS_PLACES.intersection(places) for what, places in kept.items()}
    if any(shared.values()):
        logger.warning(
            "This operator keeps its %s in Kopf's default place (%s), where every Kopf operator"
            " does that does not choose another one: two of them on one resource take each other's"
            " records for their own, and on.create may never be called. Have the identity set it:"
            " leave storages=False, or that storage, out of configure(). What objects have there"
            " already moves with former_storage_prefix=. [shared-place]",
            " and ".join(what for what, places in shared.items() if places),
            ", ".join(sorted(set().union(*shared.values()))),
        )


def introduce(
    identity: OperatorIdentity,
    *,
    former: Collection[str],
    watches_only: bool,
    own_storages: bool,
    dedicated: Iterable[str],
) -> None:
    """Say in the log who this operator is: what a reader of it needs before anything else."""
    logger.info(
        "This operator is %s%s%s. %s. Dedicated finalizers: %s.",
        identity.finalizer,
        f" (before: {', '.join(former)})" if former else "",
        " and only watches" if watches_only else "",
        f"Its records are under {identity.storage_prefix}"
        if own_storages
        else "Its storages are its own",
        ", ".join(dict.fromkeys(dedicated)) or "none",
    )


def refuse_guarding(name: str, registry: kopf.OperatorRegistry) -> None:
    """Refuse handlers of Kopf's own decorators for which an operator that only watches would guard.

    Raises:
        ConfigurationError: There is one.
    """
    found = [f"{kind_of(one)} {one.id}" for one in guarding_handlers_of(registry)]
    if found:
        raise ConfigurationError(
            f"{name} was configured with finalizer=None, as an operator that only watches,"
            f" but Kopf puts its finalizer on objects for {', '.join(found)}. Leave finalizer="
            " out of configure(); or take a daemon and a timer out, and give an on.delete"
            " optional=True, so that it never blocks a deletion. [watches-only]"
        )


class DefaultMarker:
    """Warns where an operator may have left its own marker behind, when Kopf had named it.

    Args:
        identity: Whose names are looked for.
        look_too: What looks at objects being deleted as well.
    """

    unchanged: "Unchanged"
    """What else is looked at then; set when the identity is applied."""

    def __init__(
        self, identity: OperatorIdentity, look_too: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._identity = identity
        self._look_too = look_too
        # Whose objects it is asked about, where no storage of its own is.
        self.resources: HandledResources | None = None
        self._warned = set[tuple[str, str]]()

    def watch(self, registry: kopf.OperatorRegistry) -> None:
        """Look at each object of an operator whose storages are its own; safe to call again."""
        if self.resources is None:
            self.resources = HandledResources(self._look, purpose="marker", registry=registry)
        self.resources.ask()

    def _look(self, *, body: kopf.Body, **_: Any) -> bool:
        """A filter that never lets Kopf call the handler."""
        self.look_at(body)
        return False

    def look_at(self, body: kopf.Body) -> None:
        """Warn, once for each resource, about an object with Kopf's marker and no other."""
        self.unchanged.check(body)
        metadata = metadata_of(body)
        if metadata.get("deletionTimestamp"):
            self._look_too(body)
        if KOPF_FINALIZER in (metadata.get("finalizers") or ()) and not self._is_known(body):
            self._warn_once(body)

    def _is_known(self, body: Mapping[str, Any]) -> bool:
        """Whether the object carries anything of this identity."""
        annotations = body["metadata"].get("annotations") or {}
        inside = f"{self._identity.storage_prefix}/"
        return any(key.startswith(inside) for key in annotations) or any(
            self._identity.owns(name) for name in finalizers_of(body)
        )

    def _warn_once(self, body: Mapping[str, Any]) -> None:
        resource = (str(body.get("apiVersion")), str(body.get("kind")))
        if resource in self._warned:
            return
        self._warned.add(resource)
        logger.warning(
            "Objects of %s %s carry Kopf's default finalizer, %s, and nothing of this operator, %s"
            " (%s is one). If another operator put it there, nothing is wrong. If an earlier"
            " release of this operator did, Kopf no longer takes it for its own, and these objects"
            ' will hang when they are deleted: read "Adopting it on a live cluster" in the'
            " documentation of kopf-finalizers first. [default-marker]",
            *resource,
            KOPF_FINALIZER,
            self._identity.finalizer,
            name_of(body),
        )


class HandlerIds:
    """Warns of handlers whose progress cannot be stored, each once.

    They are Kopf's own decorators', or sub-handlers: those of `finalizers.on` are refused. Alone,
    and as long as it succeeds at once, such a handler works.
    """

    def __init__(self) -> None:
        self._warned = set[str]()

    def look_at_all(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """Look at those that are declared; safe to call again."""
        if _is_in_annotations(settings.persistence.progress_storage):
            for handler in changing_handlers_of(registry):
                self.look_at(handler.id)

    def look_at(self, handler_id: str) -> None:
        """Look at one of which something is to be stored, or will be."""
        if not can_be_kept(handler_id) and handler_id not in self._warned:
            self._warned.add(handler_id)
            logger.warning("%s", refusal_of(handler_id))


def _is_in_annotations(storage: kopf.ProgressStorage) -> bool:
    if isinstance(storage, kopf.MultiProgressStorage):
        return any(map(_is_in_annotations, storage.storages))
    return isinstance(storage, kopf.AnnotationsProgressStorage)


class Awaited(Protocol):
    """Whoever waits to hear of objects."""

    @property
    def known(self) -> Collection[str]:
        """Which they are; mostly none."""

    def see(self, body: kopf.Body) -> None:
        """Kopf has begun a cycle of an object."""


class Unchanged:
    """Warns where somebody has set anew what the identity has set: then it is only half in force.

    Operators that had names of their own set them in a startup handler, which comes after the one
    of `configure`, and are left with both. `begin` is called once, when all of these have run.

    Kopf's settings tell when something is set, whatever that replaces; then each event is looked
    at, since what has looked at them so far may be what was replaced.
    """

    def __init__(
        self,
        settings: kopf.OperatorSettings,
        identity: OperatorIdentity,
        *,
        storages: bool,
        registry: kopf.OperatorRegistry,
        begin: Callable[[], None],
        awaited: Awaited,
    ) -> None:
        self._settings = settings
        self._awaited = awaited
        self._registry = registry
        self._begin: Callable[[], None] | None = begin
        self._identity = identity
        self._storages = storages
        self._resources: HandledResources | None = None
        self._warned = False
        self.renew()
        _watch(settings.persistence, self._is_set)

    def renew(self) -> None:
        """Go by the settings as they are now: this library has changed them itself."""
        persistence = self._settings.persistence
        self._finalizer = persistence.finalizer
        self._diffbase = persistence.diffbase_storage
        self._progress = _operators_own(persistence.progress_storage)
        # What looks on at it, which was seen to be this library's.
        self._observed = persistence.progress_storage

    def _is_set(self, value: object) -> None:
        """Somebody has set something."""
        if not _is_ours(value):
            self.watch()

    def watch(self) -> None:
        """Have it checked at each event, where nobody else is asked; safe to call again."""
        if self._resources is None:
            self._resources = HandledResources(
                self._look, purpose="settings", registry=self._registry
            )
            self._resources.ask()

    def _look(self, *, body: kopf.Body, **_: Any) -> bool:
        """A filter that never lets Kopf call the handler."""
        self.check(body)
        return False

    def check(self, body: kopf.Body | None = None) -> None:
        """Look at the settings in a cycle of an object, and tell who waits to hear of it."""
        if body is not None and self._awaited.known:
            self._awaited.see(body)
        if self._begin is not None:
            self._begin()  # and again, as long as it finds something wrong
            self._begin = None
        persistence = self._settings.persistence
        if self._warned or (
            persistence.finalizer is self._finalizer
            and persistence.progress_storage is self._observed
            and persistence.diffbase_storage is self._diffbase
        ):
            return
        changed = list[str]()
        if not _is_same(persistence.finalizer, self._finalizer):
            changed.append("finalizer")
        if self._storages and _operators_own(persistence.progress_storage) is not self._progress:
            changed.append("progress_storage")
        if self._storages and persistence.diffbase_storage is not self._diffbase:
            changed.append("diffbase_storage")
        if changed:
            self._warned = True
            logger.warning(
                "%s was set after the identity %s was applied, and is what counts now. Remove the"
                " line that sets it: the identity sets all three, or with storages=False the"
                " finalizer alone. What the operator had before goes into former= and"
                " former_storage_prefix=. [set-anew]",
                " and ".join(f"settings.persistence.{name}" for name in changed),
                self._identity.finalizer,
            )
        else:
            self._observed = persistence.progress_storage


def _is_same(one: str, other: str) -> bool:
    """Whether it is the same name and recognises the same: one with former names equals these."""
    return type(one) is type(other) and str.__str__(one) == str.__str__(other)


def _is_ours(value: object) -> bool:
    return type(value).__module__.startswith("kopf_finalizers.")


def _operators_own(storage: kopf.ProgressStorage) -> kopf.ProgressStorage:
    """A storage without those of this library that only look on."""
    while _is_ours(storage) and hasattr(storage, "observed"):
        storage = storage.observed
    return storage


def _watch(persistence: Any, is_set: Callable[[object], None] | None) -> None:
    """Have it told when somebody sets the finalizer or a storage."""
    kind = type(persistence)
    if not hasattr(kind, "is_watched"):

        class Watched(kind):  # type: ignore[misc, valid-type]
            is_watched = True

            def __setattr__(self, name: str, value: object) -> None:
                super().__setattr__(name, value)
                tell = vars(self).get("_kopf_finalizers")
                if tell is not None and name in _NAMES:
                    tell(value)

        persistence.__class__ = Watched
    vars(persistence)["_kopf_finalizers"] = is_set


_NAMES = ("finalizer", "progress_storage", "diffbase_storage")


def warn_of_replaced(
    settings: kopf.OperatorSettings,
    identity: OperatorIdentity,
    *,
    former: Collection[str],
    former_places: Iterable[object],
    storages: bool,
) -> None:
    """Warn of what was set before, and is about to be replaced, unless the operator has said it.

    Objects that carry it would hang, or be handled anew.
    """
    persistence = settings.persistence
    _watch(persistence, None)
    replaced = dict[str, str]()
    finalizer: Any = persistence.finalizer
    known = (KOPF_FINALIZER, identity.finalizer, *former)
    if not _is_ours(finalizer) and finalizer and finalizer not in known:
        replaced["finalizer"] = f'former=["{finalizer}"]'
    defaults = kopf.OperatorSettings().persistence
    places = {place for one in former_places for place in _places_of(one)}
    for name in ("progress_storage", "diffbase_storage") if storages else ():
        storage = getattr(persistence, name)
        found = set(_places_of(storage)) - places - set(_places_of(getattr(defaults, name)))
        if found - {identity.storage_prefix} and not _is_ours(storage):
            shown = ", ".join(sorted(found))
            replaced[name] = f"former_{name}=, with what it was set to ({shown})"
    for name, said in replaced.items():
        logger.warning(
            "settings.persistence.%s was set before the identity %s was applied, which takes its"
            " place: objects that carry what it was would hang when they are deleted, or be handled"
            " again. Remove the line that sets it; and if objects have it already, say %s."
            " [set-before]",
            name,
            identity.finalizer,
            said,
        )


def _places_of(storage: object) -> list[str]:
    """Where a storage keeps records: prefixes of annotations, and fields."""
    found = list[str]()
    for part in parts_on_object(storage):
        field = getattr(part, "field", None)
        found.append(part.prefix if field is None else ".".join(field))
    return found
