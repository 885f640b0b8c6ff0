"""How Kopf (1.44 to 1.45) names a handler, where it keeps its progress, and which it takes for one.

A handler's progress is kept under its id, in an annotation where that is where progress goes. Two
handlers with one id are one to Kopf: what one has done, both have.
"""

import functools
import re
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import kopf

from ._errors import ConfigurationError
from ._names import check_finalizer

WITH_PROGRESS = frozenset({"create", "resume", "update", "field", "delete"})
"""The decorators whose handlers Kopf tries again, in other processes too: so progress is stored."""

# How many wrappers of a function are looked through: enough for any, and an end for a cycle.
_WRAPPERS = 50


def kopf_id(fn: Callable[..., Any]) -> str | None:
    """The id that Kopf gives to a handler that has none; None where Kopf refuses the function."""
    fn = _innermost(fn)
    if isinstance(fn, FunctionType) and fn.__name__ == "<lambda>":
        return f"lambda:{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}"
    return fn.__qualname__ if isinstance(fn, FunctionType | MethodType) else None


def field_suffix(field: str | tuple[str, ...] | list[str] | None) -> list[str]:
    """What Kopf adds to the id of a handler of a field."""
    return [field if isinstance(field, str) else ".".join(field)] if field else []


# Where progress is kept

_STORAGE = kopf.AnnotationsProgressStorage(prefix="mycompany.com", v1=False)


@functools.lru_cache(maxsize=4096)
def can_be_kept(handler_id: str) -> bool:
    """Whether there can be an annotation for it: Kopf shortens an id, and replaces `/`, `<`, `>`.

    The rule is that of Kubernetes for the names of annotations, which is that for finalizers.
    """
    try:
        for key in _STORAGE.make_keys(handler_id):
            check_finalizer(key)
    except ConfigurationError:
        return False
    return True


def refusal_of(handler_id: str, own: str | None = None) -> str:
    """Why an id will not do, and the one that would; `own` is it without what Kopf adds."""
    own = handler_id if own is None else own
    rest = handler_id.removeprefix(own)
    better = re.sub(r"[^A-Za-z0-9/._-]+", "-", own)
    better = re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", better) or "handler"
    if own.startswith("lambda:"):
        better = f"lambda-{own.rpartition(':')[2]}"
    return (
        f'No annotation can be named after the handler id "{handler_id}", and that is where Kopf'
        " keeps how far a handler has come: a name has letters and digits, -, _ and . in between,"
        " and a letter or a digit at both ends (Kubernetes). So nothing can be stored of it, and"
        " whatever has to wait, for a retry or for another handler, is called anew or never again."
        + (f' Give it another one: id="{better}".' if can_be_kept(better + rest) else "")
        + " [handler-id]"
    )


# Which handlers are one


def are_one(fn: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether it is the same function, or the same method of the same object."""
    if isinstance(fn, MethodType) and isinstance(other, MethodType):
        return fn.__func__ is other.__func__ and fn.__self__ is other.__self__
    return fn is other


def is_loaded_again(fn: Callable[..., Any], other: Callable[..., Any], *, depth: int = 3) -> bool:
    """Whether it is the same function of a file that has been loaded again, by a test say.

    Then its code is equal to what it was, and not the same object. What one function has made
    several times, in a loop or for several objects, has one code object.
    """
    mine, theirs = _innermost(fn), _innermost(other)
    code, others = _code_of(mine), _code_of(theirs)
    if code is None or others is None:
        return False
    if code is not others:
        return code.co_filename == others.co_filename and code == others
    # A decorator of a file that is not loaded again may have made it: then what is in it was.
    inside = zip(_enclosed(mine), _enclosed(theirs), strict=True)
    return depth > 0 and any(is_loaded_again(*pair, depth=depth - 1) for pair in inside)


def _innermost(fn: Any) -> Any:
    """What is called in the end, as Kopf looks for it."""
    for _ in range(_WRAPPERS):
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        else:
            break
    return fn


def _code_of(fn: Any) -> CodeType | None:
    """The code of a function, a method, or an object that can be called."""
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - of an object, it has the code
    found = getattr(fn, "__code__", None) or getattr(call, "__code__", None)
    return found if isinstance(found, CodeType) else None


def _enclosed(fn: Any) -> list[Any]:
    """What a function has around it."""
    return [_content(cell) for cell in getattr(fn, "__closure__", None) or ()]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None
