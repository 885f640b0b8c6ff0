"""Resources: what a decorator was given, which an operator handles, who is asked of their events.

A resource may be given in all the notations that Kopf takes (1.44 to 1.45).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf

from ._kopf import all_handlers_of, handlers_of

# In "myresources.v1.mygroup"; in "myresources.mygroup" there is none.
_LONG_ENOUGH = 4
_VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d+)?")


@dataclass(frozen=True)
class Selector:
    """A resource as Kopf's decorators take it, compared as far as it can be without a cluster.

    A name may be a plural, a singular, a kind or a shortcut, and only a cluster knows which ones
    mean the same resource. So two selectors that differ in the name are taken for different ones.
    """

    args: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]

    def overlaps(self, other: "Selector", *, versions: bool = True) -> bool:
        """Whether both surely select some resource; without versions, some objects.

        All versions of a resource have the same objects.
        """
        pairs = zip(("group", "version", "name"), self.parts(), other.parts(), strict=True)
        return all(
            mine == theirs or None in (mine, theirs) or (part == "version" and not versions)
            for part, mine, theirs in pairs
        )

    def is_similar(self, other: "Selector") -> bool:
        """Whether both may select one kind, in several versions or groups, by the names alone."""
        if self == other or (self.parts() == other.parts() and None not in self.parts()):
            return False
        names = [one.parts()[2] for one in (self, other)]
        if any(not isinstance(name, str) or len(name) < _LONG_ENOUGH for name in names):
            return True  # what is short may be a short name of anything
        return _stem(names[0]) == _stem(names[1])

    def parts(self) -> tuple[Any, Any, Any]:
        """Group, version and name, each None where any will do."""
        named = dict(self.options)
        group, version, name = _parsed([arg for arg in self.args if arg is not None])
        names = [named.get(key) for key in ("plural", "kind", "singular", "shortcut", "category")]
        name = next(filter(None, [name, *names]), None)
        return (
            named.get("group", group),
            named.get("version", version),
            None if name is kopf.EVERYTHING else name,
        )

    def __str__(self) -> str:
        shown = [str(arg) for arg in self.args if arg is not None]
        return "/".join(shown + [f"{key}={value}" for key, value in self.options])


def _stem(name: str) -> str:
    """What a plural, a singular and a kind have in common."""
    return re.sub(r"(ies|y|[es]+)$", "", name.lower())


def _parsed(args: list[Any]) -> tuple[Any, Any, Any]:
    """What the positional arguments say, in Kopf's own order of reading them."""
    match args:
        case [str() as dotted] if "." in dotted:
            name, _, rest = dotted.partition(".")
            version, dot, group = rest.partition(".")
            if _VERSION.fullmatch(version):
                return (group if dot else None), version, name
            return rest, None, name
        case [str() as group_version, name] if "/" in group_version:
            group, _, version = group_version.rpartition("/")
            return group, version, name
        case ["v1", name]:
            return "", "v1", name
        case [group, name]:
            return group, None, name
        case [group, version, name]:
            return group, version, name
        case _:
            return None, None, next(iter(args), None)


def ask_of_events(
    when: Callable[..., bool],
    args: tuple[Any, ...],
    *,
    id: str,  # noqa: A002 - Kopf's name
    registry: kopf.OperatorRegistry,
    **options: Any,
) -> None:
    """Have Kopf ask a filter about each event of a resource.

    The filter says no to every one of them, so Kopf calls no handler and logs nothing.
    """
    event: Callable[..., Any] = kopf.on.event
    event(*args, **options, when=when, registry=registry, id=f"kopf-finalizers/{id}")(_never)


async def _never(**_: Any) -> None:  # pragma: no cover - the filters always say no
    """What Kopf would call if a filter said yes."""


class HandledResources:
    """Has a filter asked about each event of each resource that an operator handles.

    Kopf watches nothing for it that it would not watch anyway.
    """

    def __init__(
        self,
        when: Callable[..., bool],
        *,
        purpose: str,
        registry: kopf.OperatorRegistry,
        is_asked: Callable[[Selector], bool] = lambda _: False,
    ) -> None:
        self._when = when
        self._purpose = purpose
        self._registry = registry
        # Whether the filter is asked about these anyway.
        self._is_asked = is_asked
        self._asked = list[Any]()
        self._is_complete = False
        # An operator that is embedded may declare handlers after it has applied its identity.
        kopf.on.startup(registry=registry, id=f"kopf-finalizers/{purpose}")(self.ask)

    def ask(self, **_: Any) -> None:
        """Begin with what is declared by now; safe to call again."""
        for args, options in handled_resources(self._registry):
            selector = Selector(args, tuple(options.items()))
            if (args, options) not in self._asked and not self._is_asked(selector):
                name = f"{self._purpose}:{len(self._asked)}"
                self._asked.append((args, options))
                ask_of_events(self._look, args, id=name, registry=self._registry, **options)

    def _look(self, **kwargs: Any) -> bool:
        if not self._is_complete:
            # Startup handlers declare handlers too; by the first event all of them have run.
            self._is_complete = True
            self.ask()
        return self._when(**kwargs)


def all_selectors(registry: kopf.OperatorRegistry) -> list[Selector]:
    """The resources of which an operator sees objects, however they are written."""
    found = (
        selector_of(one)
        for one in all_handlers_of(registry)
        if not one.id.startswith("kopf-finalizers/")
    )
    return [*dict.fromkeys(found)]


def handled_resources(
    registry: kopf.OperatorRegistry,
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The resources of an operator's handlers, as Kopf's decorators take them."""
    found = list[tuple[tuple[Any, ...], dict[str, Any]]]()
    for handler in handlers_of(registry):
        selector = selector_of(handler)
        resource = (selector.args, dict(selector.options))
        if resource not in found:
            found.append(resource)
    return found


def selector_of(handler: Any) -> Selector:
    """What one of Kopf's handlers was given."""
    given = {key: one for key, one in vars(handler.selector).items() if one is not None}
    args = tuple(given.pop(name) for name in ("any_name", "fn") if name in given)
    return Selector(args, tuple(given.items()))


def handler_ids(registry: kopf.OperatorRegistry) -> list[str]:
    """The names under which progress is kept."""
    return [handler.id for handler in handlers_of(registry)]
