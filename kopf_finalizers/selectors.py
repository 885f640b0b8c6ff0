"""The resource that a decorator was given, in all the notations that Kopf takes (1.44 to 1.45)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf

# In "myresources.v1.mygroup"; in "myresources.mygroup" there is none.
_VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d+)?")


@dataclass(frozen=True)
class Selector:
    """A resource as Kopf's decorators take it, compared as far as it can be without a cluster.

    A name may be a plural, a singular, a kind or a shortcut, and only a cluster knows which ones
    mean the same resource. So two selectors that differ in the name are taken for different ones.
    """

    args: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]

    def overlaps(self, other: "Selector") -> bool:
        """Whether both surely select some resource."""
        pairs = zip(self.parts(), other.parts(), strict=True)
        return all(mine == theirs or None in (mine, theirs) for mine, theirs in pairs)

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
