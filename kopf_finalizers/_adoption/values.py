"""What an expression in an operator's source stands for, as far as that is told without running it.

Its modules have been imported, as `kopf run` does, so constants and names of a module are known. A
call could do anything, and none is made, but of Kopf's own storages, which keep their arguments.
"""

import ast
import enum
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeAlias

import kopf

from .._kopf import parts_on_object

KINDS = frozenset(
    {
        kopf.AnnotationsProgressStorage,
        kopf.SmartProgressStorage,
        kopf.StatusProgressStorage,
        kopf.MultiProgressStorage,
        kopf.AnnotationsDiffBaseStorage,
        kopf.StatusDiffBaseStorage,
        kopf.MultiDiffBaseStorage,
    }
)
"""Kopf's storages (1.44 to 1.45)."""


class UnknownError(Exception):
    """Only running it would tell."""


@dataclass(frozen=True)
class Storage:
    """One of Kopf's storages, and the options that the operator gives to it."""

    kind: type
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made(self) -> Any:
        """It, as Kopf makes it."""
        return self.kind(**{name: made(one) for name, one in self.options.items()})

    @property
    def code(self) -> str:
        """How it is written."""
        options = ", ".join(f"{name}={written(one)}" for name, one in self.options.items())
        return f"kopf.{self.kind.__name__}({options})"

    @property
    def places(self) -> list[str]:
        """Where its records are, for people: `mycompany.com/last` or `status.kopf.progress`."""
        found = []
        for part in parts_on_object(self.made):
            if hasattr(part, "prefix"):
                inside = getattr(part, "key", None) or "…"
                found.append(f"{part.prefix}/{inside}" if part.prefix else inside)
            else:
                found.append(".".join(part.field))
        return found

    @property
    def parts(self) -> list[Any]:
        """The storages that keep their records on the object."""
        return parts_on_object(self.made)


@dataclass(frozen=True)
class OwnStorage:
    """A storage of the operator's own making: only its author knows where its records are."""

    code: str


Value: TypeAlias = str | bool | int | list[Any] | Storage | OwnStorage | None


@dataclass(frozen=True)
class Scope:
    """What names mean somewhere in a module.

    Attributes:
        module: The module's names, as they are when it has been imported.
        assigned: What the source assigns to names of the module, where it does so once.
        local: The same of the function; None for a name that is given otherwise.
    """

    module: Mapping[str, Any]
    assigned: Mapping[str, ast.expr] = field(default_factory=dict)
    local: Mapping[str, ast.expr | None] = field(default_factory=dict)


def value_of(node: ast.expr, scope: Scope) -> Value:
    """What an expression stands for.

    Raises:
        UnknownError: Only running it would tell.
    """
    match node:
        case ast.Constant(value=str() | bool() | int() | None as value):
            return value
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return [value_of(one, scope) for one in parts]
        case ast.JoinedStr(values=parts):
            return "".join(str(value_of(one, scope)) for one in parts)
        case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
            return _text(value_of(inner, scope))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(value_of(left, scope)) + _text(value_of(right, scope))
        case ast.Call():
            return _storage_of(node, scope)
        case ast.Name(id=name) if name in scope.local:
            given = scope.local[name]
            if given is None:
                raise UnknownError
            return value_of(given, Scope(scope.module, scope.assigned, {**scope.local, name: None}))
        case ast.Name() | ast.Attribute():
            found = _object_of(node, scope)
            assigned = scope.assigned.get(node.id) if isinstance(node, ast.Name) else None
            if isinstance(assigned, ast.Call) and _is_storage(found):
                return value_of(assigned, Scope(scope.module, scope.assigned))
            return _plain(found)
        case _:
            raise UnknownError


def is_of(node: ast.expr, scope: Scope, expected: object) -> bool:
    """Whether an expression is this very object."""
    try:
        return _object_of(node, scope) is expected
    except UnknownError:
        return False


def _object_of(node: ast.expr, scope: Scope) -> Any:
    """What a name, or an attribute of one, is: without running a property."""
    if isinstance(node, ast.Name) and node.id not in scope.local and node.id in scope.module:
        return scope.module[node.id]
    if not isinstance(node, ast.Attribute):
        raise UnknownError
    base = _object_of(node.value, scope)
    if isinstance(base, enum.EnumMeta) and node.attr in base.__members__:
        return base.__members__[node.attr]
    if isinstance(base, enum.Enum) and node.attr == "value":
        return base.value
    found = inspect.getattr_static(base, node.attr, UnknownError)
    # Of a class or an object, a function or a property is not what it is asked for.
    is_bound = not isinstance(base, ModuleType) and not isinstance(found, type)
    if found is UnknownError or (is_bound and hasattr(found, "__get__")):
        raise UnknownError
    return found


def _plain(found: object) -> Value:
    if isinstance(found, str):
        return str.__str__(found)
    if found is None or isinstance(found, bool | int):
        return found
    if isinstance(found, list | tuple | set | frozenset):
        return [_plain(one) for one in found]
    if _is_storage(found) and type(found) not in KINDS:
        return OwnStorage(type(found).__name__)
    raise UnknownError


def _is_storage(found: object) -> bool:
    return isinstance(found, kopf.ProgressStorage | kopf.DiffBaseStorage)


def _storage_of(node: ast.Call, scope: Scope) -> Storage | OwnStorage:
    kind = _object_of(node.func, scope)
    if not isinstance(kind, type):
        raise UnknownError
    if kind not in KINDS:
        if issubclass(kind, kopf.ProgressStorage | kopf.DiffBaseStorage):
            return OwnStorage(ast.unparse(node))
        raise UnknownError
    positional = [value_of(one, scope) for one in node.args]
    named = {one.arg: value_of(one.value, scope) for one in node.keywords if one.arg}
    if len(named) < len(node.keywords):
        raise UnknownError  # **options
    try:
        signature = inspect.signature(kind)
        given = signature.bind(*positional, **named).arguments
        # Many write what Kopf has by default, as its documentation shows it.
        defaults = {name: one.default for name, one in signature.parameters.items()}
        options = {name: one for name, one in given.items() if one != defaults[name]}
        storage = Storage(kind, options)
        if any(isinstance(one, OwnStorage) for one in options.get("storages", ())):
            return OwnStorage(ast.unparse(node))
        storage.made  # noqa: B018 - Kopf takes these options, or does not
    except (TypeError, ValueError):
        raise UnknownError from None
    return storage


def _text(value: Value) -> str:
    if not isinstance(value, str | int):
        raise UnknownError
    return str(value)


def made(value: Any) -> Any:
    """A value as an operator has it."""
    if isinstance(value, Storage):
        return value.made
    return [made(one) for one in value] if isinstance(value, list) else value


def written(value: Any) -> str:
    """A value as it is written in a source."""
    if isinstance(value, Storage):
        return value.code
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return json.dumps(value)
    return repr(value)
