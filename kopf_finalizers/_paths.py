"""Values in bodies and merge patches, by where they stand."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str, ...]


def leaves(values: Mapping[str, Any], inside: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The values of a body or a merge patch, each with where it stands."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*inside, key))
        else:
            yield (*inside, key), value


def has(values: Any, path: Path) -> bool:
    """Whether there is anything at that place."""
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def found(values: Any, path: Path) -> Any:
    """The value at a place where there is one."""
    for key in path:
        values = values[key]
    return values


def put(values: dict[str, Any], path: Path, value: Any) -> None:
    """Write a value into a body or a merge patch."""
    *above, last = path
    for key in above:
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[last] = value


def take(values: dict[str, Any], path: Path) -> None:
    """Take a value out of a body or a merge patch, and what it leaves empty."""
    key, *rest = path
    if rest:
        take(values[key], tuple(rest))
    if not rest or not values[key]:
        del values[key]
