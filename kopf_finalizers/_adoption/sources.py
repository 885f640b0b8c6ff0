"""The lines of an operator that set its names: read, and never run.

Kopf's settings are set in startup handlers mostly, but also in functions that these call, or before
`kopf.run`. So all of an operator's own modules are read for whatever sets
`….persistence.finalizer`, `.progress_storage` or `.diffbase_storage`.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import kopf_finalizers

from .values import Scope, UnknownError, Value, is_of, value_of

NAMES = ("finalizer", "progress_storage", "diffbase_storage")

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# What is in one of these may be run or not.
_CONDITIONS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Match)


@dataclass(frozen=True)
class Line:
    """A place in a file."""

    file: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(frozen=True)
class Setting:
    """One statement that sets one of the three.

    Attributes:
        name: Which.
        line: Where.
        value: To what.
        is_known: Whether that can be told.
        is_sure: Whether it is set whenever the operator starts.
    """

    name: str
    line: Line
    value: Value
    is_known: bool
    is_sure: bool


@dataclass(frozen=True)
class Span:
    """Lines that have to go, the last one included."""

    file: str
    first: int
    last: int
    leaves_nothing: bool = False
    """Whether `pass` has to stay in their place."""

    @property
    def numbers(self) -> str:
        """`12` or `12-15`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass
class Source:
    """One module of an operator."""

    file: str
    text: str
    tree: ast.Module
    names: Mapping[str, Any]
    _scopes: dict[ast.AST | None, Scope] = field(default_factory=dict)

    @classmethod
    def of(cls, module: ModuleType) -> "Source | None":
        """The source of a module; None where it has none, as a compiled one."""
        path = Path(module.__file__ or "")
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError):
            return None
        return cls(_shown(path), text, tree, vars(module))

    def line(self, node: ast.AST) -> Line:
        number: int = node.lineno  # type: ignore[attr-defined]
        return Line(self.file, number, self.text.splitlines()[number - 1].strip())

    def settings(self) -> Iterator[Setting]:
        """What sets one of the three names."""
        for statement, function, is_sure in _statements(self.tree):
            scope = self._scope(function)
            for name, value in _set_by(statement, scope):
                known, is_known = None, value is not None
                try:
                    known = value_of(value, scope) if value is not None else None
                except UnknownError:
                    is_known = False
                line = self.line(statement)
                yield Setting(name, line, known, is_known=is_known, is_sure=is_sure)

    def handed_on(self) -> Iterator[Line]:
        """Where somebody else is given `….persistence`, who may set it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and not _is_setattr(node):
                given = [*node.args, *(one.value for one in node.keywords)]
                if any(map(_is_persistence, given)):
                    yield self.line(node)

    def identities(self) -> Iterator[Line]:
        """Where it has an identity already."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and is_of(
                node.func, self._scope(None), kopf_finalizers.configure
            ):
                yield self.line(node)

    def spans(self, names: Iterable[str]) -> list[Span]:
        """The lines that have to go so that nothing sets these names."""
        wanted, doomed = frozenset(names), set[ast.stmt]()
        for statement, function, _ in _statements(self.tree):
            found = {name for name, _ in _set_by(statement, self._scope(function))}
            if found and found <= wanted:
                doomed.add(statement)
        return _joined(self._gone(self.tree.body, doomed))

    def _gone(self, body: Iterable[ast.stmt], doomed: set[ast.stmt]) -> Iterator[Span]:
        for one in body:
            if _goes(one, doomed):
                first = min([one.lineno, *(d.lineno for d in getattr(one, "decorator_list", ()))])
                yield Span(self.file, first, one.end_lineno or one.lineno)
                continue
            for inner in _bodies(one):
                spans = _joined(self._gone(inner, doomed))
                is_empty = bool(spans) and all(_goes(each, doomed) for each in inner)
                for index, span in enumerate(spans):
                    leaves_nothing = span.leaves_nothing or (is_empty and not index)
                    yield replace(span, leaves_nothing=leaves_nothing)

    def mentions(self, names: Iterable[str], gone: Iterable[Span]) -> Iterator[Line]:
        """Other lines that know these names, or prefixes with their slash.

        What is below a domain is another name, and what is in a version of an API, too.
        """
        known = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, names))})(?!v\d)")
        without = {number for span in gone for number in range(span.first, span.last + 1)}
        texts = [one.value for one in ast.walk(self.tree) if isinstance(one, ast.Expr)]
        seen = set[int]()
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if node in texts or node.lineno in seen | without:
                continue
            if known.search(node.value):
                seen.add(node.lineno)
                yield self.line(node)

    def _scope(self, function: ast.AST | None) -> Scope:
        if function not in self._scopes:
            self._scopes[function] = self._new_scope(function)
        return self._scopes[function]

    def _new_scope(self, function: ast.AST | None) -> Scope:
        assigned = {name: one for name, one in _assigned(self.tree).items() if one is not None}
        if function is None:
            return Scope(self.names, assigned)
        arguments = function.args  # type: ignore[attr-defined]
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        given += [one for one in (arguments.vararg, arguments.kwarg) if one]
        return Scope(
            self.names, assigned, {**dict.fromkeys(one.arg for one in given), **_assigned(function)}
        )


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Lines after one another as one span."""
    found = list[Span]()
    for one in spans:
        if found and found[-1].last + 1 == one.first and not one.leaves_nothing:
            one = replace(found.pop(), last=one.last)
        found.append(one)
    return found


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, ast.AST | None, bool]]:
    """All simple statements, each with its function and whether nothing but that decides on it."""

    def inside(
        node: ast.AST, function: ast.AST | None, *, is_sure: bool
    ) -> Iterator[tuple[ast.stmt, ast.AST | None, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _FUNCTIONS):
                yield from inside(child, child, is_sure=True)
                continue
            if isinstance(child, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr):
                yield child, function, is_sure
            depends = isinstance(child, _CONDITIONS) and not _is_main(child)
            yield from inside(child, function, is_sure=is_sure and not depends)

    return inside(tree, None, is_sure=True)


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _assigned(body: ast.AST) -> dict[str, ast.expr | None]:
    """The names that are assigned in a module or a function; None where it is in two ways."""
    counts = Counter[str]()
    nodes = list(ast.iter_child_nodes(body))
    while nodes:
        node = nodes.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] += 1
    found: dict[str, ast.expr | None] = dict.fromkeys(counts)
    for node in ast.iter_child_nodes(body):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if counts[name] == 1:
                found[name] = value
    return found


def _is_persistence(node: ast.AST, scope: Scope | None = None) -> bool:
    """Whether it is `….persistence`, or a name for it in the same function."""
    if isinstance(node, ast.Name) and scope is not None:
        given = scope.local.get(node.id) or scope.assigned.get(node.id)
        return given is not None and _is_persistence(given)
    return isinstance(node, ast.Attribute) and node.attr == "persistence"


def _is_setattr(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "setattr" and len(node.args) == 3


def _set_by(statement: ast.stmt, scope: Scope) -> Iterator[tuple[str, ast.expr | None]]:
    """The names that a statement sets, and to what; None where its source does not say."""
    match statement:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _assigned_to(target, value, scope)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield from _assigned_to(target, value, scope)
        case ast.AugAssign(target=target):
            yield from _assigned_to(target, None, scope)
        case ast.Expr(value=ast.Call(args=[base, name, value]) as call) if _is_setattr(call):
            if _is_persistence(base, scope):
                known = isinstance(name, ast.Constant)
                names = [name.value] if isinstance(name, ast.Constant) else NAMES
                yield from ((one, value if known else None) for one in names if one in NAMES)


def _assigned_to(
    target: ast.expr, value: ast.expr | None, scope: Scope
) -> Iterator[tuple[str, ast.expr | None]]:
    match target:
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            values: list[ast.expr | None] = [None] * len(parts)
            if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(parts):
                values = list(value.elts)
            for one, its in zip(parts, values, strict=True):
                yield from _assigned_to(one, its, scope)
        case ast.Attribute(attr=name, value=base) if name in NAMES:
            if _is_persistence(base, scope):
                yield name, value
        case ast.Attribute(attr="persistence"):
            yield from ((name, None) for name in NAMES)


def _bodies(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of a statement."""
    for name in ("body", "orelse", "finalbody"):
        yield from filter(None, [getattr(statement, name, None)])
    for inner in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield inner.body


def _goes(statement: ast.stmt, doomed: set[ast.stmt]) -> bool:
    """Whether nothing of a statement is left when these are gone."""
    if statement in doomed:
        return True
    blocks = list(_bodies(statement))
    if not blocks or isinstance(statement, ast.ClassDef):
        return False
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        # Nobody else calls a startup handler.
        named = [one.func if isinstance(one, ast.Call) else one for one in statement.decorator_list]
        if not any(isinstance(one, ast.Attribute) and one.attr == "startup" for one in named):
            return False
    inner = [one for block in blocks for one in block if not _is_idle(one)]
    return bool(inner) and all(_goes(one, doomed) for one in inner)


def _is_idle(statement: ast.stmt) -> bool:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_text or isinstance(statement, ast.Pass)
