"""What handlers declare: which finalizer each uses, on which resource, under which filters."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

import kopf

from .._bodies import finalizers_of, is_being_deleted
from .._changes import Finalizer
from .._errors import ConfigurationError
from .._handler_ids import are_one, is_loaded_again
from .._kopf import selects
from .._resources import Selector
from .filters import Answer, Filters, Seen

OnTimeout: TypeAlias = Literal["release", "keep"]
"""What becomes of a finalizer whose cleanup is overdue."""

Place: TypeAlias = tuple[kopf.OperatorRegistry, Selector]
"""A resource as it was written, and where: Kopf is asked there."""


@dataclass(frozen=True)
class Use:
    """One handler's use of a finalizer, as it was declared."""

    finalizer: str
    kind: str
    fn: Callable[..., Any]
    selector: Selector
    registry: kopf.OperatorRegistry
    handler_id: str
    param: Any = field(default=None, compare=False)
    leaves: str | None = None
    release_after: float | None = None
    on_timeout: OnTimeout | None = None
    # Whether Kopf's own decorator has declared it, and not the library's.
    is_kopfs: bool = False
    filters: Filters = field(default=Filters(), compare=False)

    @property
    def place(self) -> Place:
        """Where Kopf asks about it."""
        return self.registry, self.selector

    @property
    def is_cleanup(self) -> bool:
        """Whether the finalizer waits for this handler to succeed."""
        return self.kind == "delete"

    @property
    def is_released(self) -> bool:
        """Whether the finalizer goes when the cleanup is overdue."""
        return self.on_timeout == "release"

    def meets(self, other: "Use") -> bool:
        """Whether both may be cleanups of one object, by different functions.

        The same file may be loaded again, by a test say: that makes no difference to Kopf.
        """
        return (
            self.is_cleanup
            and other.is_cleanup
            and self.registry is other.registry
            and self.selector.overlaps(other.selector)
            and not are_one(self.fn, other.fn)
            and not self._is_loaded_again(other)
        )

    def hides(self, other: "Use") -> bool:
        """Whether Kopf takes both cleanups for one, and would call only one of them."""
        return (
            self.handler_id == other.handler_id
            and self.registry is other.registry
            and self.selector.overlaps(other.selector, versions=False)
            and not (are_one(self.fn, other.fn) and _are_equal(self.param, other.param))
            and not is_loaded_again(self.fn, other.fn)
        )

    def _is_loaded_again(self, other: "Use") -> bool:
        return (self.finalizer, self.handler_id) == (
            other.finalizer,
            other.handler_id,
        ) and is_loaded_again(self.fn, other.fn)


def check_deadline(finalizer: object, release_after: object, on_timeout: object) -> None:
    """Refuse what `release_after=` and `on_timeout=` cannot mean.

    Raises:
        ConfigurationError: It has no dedicated finalizer, no decision, or is no positive number.
    """
    if release_after is None and on_timeout is None:
        return
    if release_after is None or on_timeout not in ("release", "keep"):
        raise ConfigurationError(
            "release_after= and on_timeout= go together, since somebody has to decide what is"
            ' worse: on_timeout="release" lets the object go, and what the cleanup cleans up is'
            ' left behind; on_timeout="keep" only tells, and the object hangs on. [release-after]'
        )
    if not isinstance(finalizer, str):
        raise ConfigurationError(
            "release_after= is for a cleanup with a dedicated finalizer, which can go by itself:"
            ' add finalizer="...". For all others there is Kopf\'s timeout=, which counts from the'
            " first call. [release-after]"
        )
    is_number = isinstance(release_after, int | float) and not isinstance(release_after, bool)
    if not is_number or not 0 < cast("float", release_after) < math.inf:
        raise ConfigurationError(
            f"release_after={release_after!r} must be a number of seconds from the deletion, as in"
            " release_after=3600. [release-after]"
        )


def _are_equal(one: object, other: object) -> bool:
    """Whether a handler is called with the same; what cannot be compared is not the same."""
    try:
        return one is other or bool(one == other)
    except Exception:  # whatever a user's own class raises
        return False


@dataclass(frozen=True)
class Wanted:
    """A finalizer on one resource, and the handlers that want it on its objects."""

    finalizer: Finalizer
    uses: tuple[Use, ...]

    @functools.cached_property
    def is_by_all(self) -> bool:
        """Whether a handler wants it on all objects that are alive."""
        return any(use.filters.hold_always for use in self.uses)

    @functools.cached_property
    def has_cleanups(self) -> bool:
        """Whether it may wait for a handler on an object that is being deleted."""
        return any(use.is_cleanup for use in self.uses)

    def is_by_any(self, seen: Seen) -> bool:
        """Whether a handler wants it on an object that is alive, as far as that is known."""
        return self.is_by_all or any(use.filters.hold(seen) is not False for use in self.uses)


class _Said(Filters):
    """What the stream of another resource has said of a handler's filters."""

    def __init__(self, said: Callable[[Seen], Answer], filters: Filters) -> None:
        self._said = said
        self._filters = filters

    @property
    def hold_always(self) -> bool:
        return self._filters.hold_always

    def hold(self, seen: Seen) -> Answer:
        return True if self.hold_always else self._said(seen)


class Uses:
    """All that an operator's handlers have declared.

    Args:
        former: For each finalizer that has had other names: itself.
        left: Names that are taken off whenever the operator's own finalizer is.
    """

    def __init__(self, former: Iterable[Finalizer] = (), left: Iterable[str] = ()) -> None:
        self.declared = list[Use]()
        self._former = {finalizer.name: finalizer for finalizer in former}
        self._left = frozenset(left)
        self._known = dict[tuple[kopf.OperatorRegistry, kopf.Resource], _Known]()
        # The cleanups of all resources that may have objects in common with one.
        self._similar = dict[tuple[kopf.OperatorRegistry, kopf.Resource], dict[str, Use]]()

    def finalizer(self, name: str) -> Finalizer:
        """A finalizer with the names that it had."""
        return self._former.get(name) or Finalizer(name)

    @property
    def former_names(self) -> dict[str, tuple[str, ...]]:
        """The names that each finalizer had before."""
        return {name: finalizer.former for name, finalizer in self._former.items()}

    def declare(self, use: Use) -> None:
        """Note a handler's use of a finalizer.

        Raises:
            ConfigurationError: Another cleanup waits with the same finalizer on the same resource,
                or the finalizer is listed as one that the operator has left.
        """
        if use.finalizer in self._left.union(*self.former_names.values()):
            raise ConfigurationError(
                f'The finalizer "{use.finalizer}" of {use.handler_id} is listed as a former name,'
                " so it would be taken off while the handler still needs it: take it out of former="
                " or former_dedicated=, or give the handler another one. [former-name]"
            )
        for other in self.declared:
            if other.finalizer == use.finalizer and use.meets(other):
                raise ConfigurationError(
                    f'The finalizer "{use.finalizer}" of {use.selector} already waits for the'
                    f" cleanup {other.handler_id}, so it cannot wait for {use.handler_id} too: one"
                    " would take it off while the other is still to be done. Give each cleanup a"
                    " finalizer of its own. [shared-finalizer]"
                )
        self.declared.append(use)
        self._known.clear()
        self._similar.clear()

    def shared(
        self,
        registry: kopf.OperatorRegistry,
        resource: kopf.Resource,
        others: Iterable[kopf.Resource],
        said: Callable[[kopf.Resource, Use, Seen], Answer],
        body: Mapping[str, Any],
    ) -> tuple[Wanted, ...]:
        """The finalizers of an object that several resources have in common.

        Args:
            registry: The operator's.
            resource: In whose stream it is seen now: its handlers' filters are asked.
            others: The others, of whose handlers' filters only their own streams can tell.
            said: What those have said. They put on themselves what they want.
            body: The object.
        """
        uses = {one.finalizer: list(one.uses) for one in self.of(registry, resource)}
        for where in others:
            for one in self.of(registry, where):
                is_there = bool(one.finalizer.found(finalizers_of(body)))
                for use in one.uses if is_there or is_being_deleted(body) else ():
                    filters = _Said(functools.partial(said, where, use), use.filters)
                    its = uses.setdefault(one.finalizer, [])
                    its.append(replace(use, filters=filters))
        return tuple(Wanted(finalizer, tuple(its)) for finalizer, its in uses.items())

    def elsewhere(
        self, registry: kopf.OperatorRegistry, resource: kopf.Resource, wanted: Iterable[Wanted]
    ) -> dict[str, Use]:
        """The cleanups of other versions or groups of a kind, by the names of their finalizers.

        Those of resources that Kopf does not watch, or not yet: it asks once what is served.
        """
        similar = self._similar.get((registry, resource))
        if similar is None:
            mine = Selector((resource.group, resource.version, resource.plural), ())
            similar = self._similar[registry, resource] = {
                name: use
                for use in self.declared
                if use.is_cleanup and use.registry is registry and use.selector.is_similar(mine)
                for name in self.finalizer(use.finalizer).names
            }
        known = {name for one in wanted for name in one.finalizer.names}
        return {name: use for name, use in similar.items() if name not in known}

    def of(self, registry: kopf.OperatorRegistry, resource: kopf.Resource) -> tuple[Wanted, ...]:
        """The finalizers of a resource, however the decorators of its handlers write it."""
        known = self._known.get((registry, resource))
        # Resources are equal by their names, and a new one may have other categories.
        if known is None or known.resource is not resource:
            known = _Known(resource, tuple(self._found(registry, resource)))
            self._known[registry, resource] = known
        return known.wanted

    def _found(self, registry: kopf.OperatorRegistry, resource: kopf.Resource) -> Iterable[Wanted]:
        selectors = {use.selector: False for use in self.declared if use.registry is registry}
        for selector in selectors:
            selectors[selector] = selects(selector.args, dict(selector.options), resource)
        uses = dict[str, list[Use]]()
        for use in self.declared:
            if use.registry is registry and selectors[use.selector]:
                uses.setdefault(use.finalizer, []).append(use)
        return (Wanted(self.finalizer(name), tuple(its)) for name, its in uses.items())


@dataclass(frozen=True)
class _Known:
    """What was found about a resource."""

    resource: kopf.Resource
    wanted: tuple[Wanted, ...]
