"""What finalizers an operator uses: a record for its documentation, and for whoever is on call.

It is made from what the operator's handlers have declared, without a cluster. So a resource is
shown as the handlers name it, in the notation of kubectl as far as that is possible.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import kopf

from ._dedicated.uses import Use
from ._kopf import handlers_of
from ._resources import Selector, selector_of

# The inner command prints the JSON Patch that takes one entry off: the last one where it is there
# twice, and nothing at all where it is not there. The `test`s make an API server refuse the patch
# where it is another object by now, or another entry has come to that place.
_COMMAND = """\
kubectl patch RESOURCE NAME --namespace NAMESPACE --type json --patch "$(
  kubectl get RESOURCE NAME --namespace NAMESPACE --output go-template='
    {{- $patch := "" -}}
    {{- range $i, $f := .metadata.finalizers -}}
      {{- if eq $f "FINALIZER" -}}
        {{- $patch = printf `[
          {"op": "test", "path": "/metadata/uid", "value": "%s"},
          {"op": "test", "path": "/metadata/finalizers/%d", "value": "%s"},
          {"op": "remove", "path": "/metadata/finalizers/%d"}
        ]` $.metadata.uid $i $f $i -}}
      {{- end -}}
    {{- end -}}
    {{- $patch -}}
  ')"
"""

# Kopf's types of handlers that need its finalizer, other than for a deletion.
_KINDS = {"DaemonHandler": "daemon", "TimerHandler": "timer"}
_STOPPED = {"daemon": "the daemon", "timer": "the timer"}


@dataclass(frozen=True)
class InventoryEntry:
    """One finalizer that one handler has on its objects: what it is for, and how it goes.

    Attributes:
        name: The finalizer.
        resource: The objects that carry it, as kubectl names them: `databases.v1.mycompany.com`. In
            words where a handler selects its objects in a way that kubectl does not know.
        handler: The handler's id, as it stands in Kopf's logs; of a lambda without its folder.
            Empty where handlers put it on by hand.
        decorator: What has declared it: `on.delete`, `on.daemon`, `kopf.on.delete` and so on, or
            `declare`.
        waits_for: What must happen before the operator takes it off an object being deleted.
        release: A command that takes it off one object by hand, and nobody else's. It is for a
            POSIX shell, with NAME and NAMESPACE to be replaced. Where the list has changed in
            between, the API server refuses it, and it can be run again; where the finalizer is not
            on the object, nothing is sent. What it waits for is then not done.
        former_of: The finalizer that has this one's place now, where it is a former name that is
            still recognised (`former=` and `former_dedicated=` of `configure`).
        purpose: What it is for: the first paragraph of the handler's docstring.
        leaves: What stays behind when it is released by hand, as `leaves=` of the cleanups says
            that it waits for.

    Example:
        >>> @finalizers.on.delete(
        ...     "mycompany.com",
        ...     "v1",
        ...     "databases",
        ...     finalizer="backups",
        ...     leaves="the backups in the object store",
        ... )
        ... def drop_backups(**_):
        ...     '''Drops the backups.'''
        >>> entry = finalizers.inventory()[-1]
        >>> entry.name, entry.resource, entry.handler
        ('mycompany.com/db-operator.backups', 'databases.v1.mycompany.com', 'drop_backups')
        >>> entry.waits_for
        'drop_backups to succeed, or to be given up'
        >>> entry.purpose, entry.leaves
        ('Drops the backups.', 'the backups in the object store')
        >>> print(entry.release)
        kubectl patch databases.v1.mycompany.com NAME --namespace NAMESPACE --type json ...
    """

    name: str
    resource: str
    handler: str
    decorator: str
    waits_for: str
    release: str
    former_of: str | None = None
    purpose: str | None = None
    leaves: str | None = None


@dataclass(frozen=True)
class ByHand:
    """A finalizer that handlers put on by themselves, as it was declared."""

    finalizer: str
    selector: Selector
    waits_for: str
    purpose: str | None = None
    leaves: str | None = None


def inventory_of(
    own: Sequence[Use],
    dedicated: Sequence[Use],
    former: Mapping[str, Iterable[str]],
    by_hand: Sequence[ByHand] = (),
) -> list[InventoryEntry]:
    """The entries of an operator: of its own finalizer, of each dedicated one, of those by hand.

    Those of one finalizer stand together, and those of its former names after them.
    """
    waits = _waits_of(own, dedicated)
    entries = dict[InventoryEntry, None]()
    for name in dict.fromkeys(use.finalizer for use, _ in waits):
        for shown in (name, *former.get(name, ())):
            of = name if shown != name else None
            its = ((use, cleanups) for use, cleanups in waits if use.finalizer == name)
            entries.update((_entry(shown, use, those, former_of=of), None) for use, those in its)
    for one in by_hand:
        for shown in (one.finalizer, *former.get(one.finalizer, ())):
            of = one.finalizer if shown != one.finalizer else None
            entries[_entry_by_hand(shown, one, former_of=of)] = None
    return list(entries)


def selected_entries(
    own: Sequence[Use], dedicated: Sequence[Use], by_hand: Sequence[ByHand]
) -> Iterator[tuple[Selector, str, InventoryEntry]]:
    """The same under today's names, each with what it selects and the id of its handler."""
    for use, cleanups in _waits_of(own, dedicated):
        yield use.selector, use.handler_id, _entry(use.finalizer, use, cleanups, former_of=None)
    for one in by_hand:
        yield one.selector, "", _entry_by_hand(one.finalizer, one, former_of=None)


def uses_of_kopf(
    finalizer: str, registry: kopf.OperatorRegistry, known: Iterable[Use]
) -> list[Use]:
    """The handlers of Kopf's own decorators for which it puts the operator's finalizer on."""
    others = {(use.fn, use.handler_id) for use in known}
    return [
        Use(
            finalizer=finalizer,
            kind=_KINDS.get(type(handler).__name__, "delete"),
            fn=handler.fn,
            selector=selector_of(handler),
            registry=registry,
            handler_id=handler.id,
            is_kopfs=True,
        )
        for handler in handlers_of(registry)
        if handler.requires_finalizer and (handler.fn, handler.id) not in others
    ]


def _waits_of(own: Sequence[Use], dedicated: Sequence[Use]) -> list[tuple[Use, list[Use]]]:
    """What each use of a finalizer waits for."""
    return [
        *((use, [use]) for use in own),
        *((use, _cleanups_of(use, dedicated)) for use in dedicated),
    ]


def _entry_by_hand(name: str, one: ByHand, *, former_of: str | None) -> InventoryEntry:
    resource, is_known = _resource(one.selector)
    return InventoryEntry(
        name=name,
        resource=resource,
        handler="",
        decorator="declare",
        waits_for=one.waits_for,
        release=release_command(name, resource if is_known else "RESOURCE"),
        former_of=former_of,
        purpose=one.purpose,
        leaves=one.leaves,
    )


def _entry(
    name: str, use: Use, waits_for: Sequence[Use], *, former_of: str | None
) -> InventoryEntry:
    resource, is_known = _resource(use.selector)
    return InventoryEntry(
        name=name,
        resource=resource,
        handler=_shown(use.handler_id),
        decorator=f"kopf.on.{use.kind}" if use.is_kopfs else f"on.{use.kind}",
        waits_for=_end_of(waits_for),
        release=release_command(name, resource if is_known else "RESOURCE"),
        former_of=former_of,
        purpose=_purpose_of(use.fn),
        leaves="; ".join(dict.fromkeys(one.leaves for one in waits_for if one.leaves)) or None,
    )


def _purpose_of(fn: Callable[..., Any]) -> str | None:
    """The first paragraph of a handler's docstring, as one line."""
    while isinstance(fn, functools.partial):  # whose own docstring is about partial functions
        fn = fn.func
    paragraph = (inspect.getdoc(inspect.unwrap(fn)) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()) or None


def release_command(name: str, resource: str = "RESOURCE") -> str:
    """The command that takes one finalizer off one object, with what is to be replaced in it."""
    return _COMMAND.replace("RESOURCE", resource).replace("FINALIZER", name).rstrip()


def _end_of(waits_for: Sequence[Use]) -> str:
    """What a finalizer waits for: a daemon or a timer, cleanups, or nothing."""
    match waits_for:
        case []:
            return "nothing: it goes as soon as the object is being deleted"
        case [use] if use.kind in _STOPPED:
            return f"{_STOPPED[use.kind]} {_shown(use.handler_id)} to stop"
    ids = dict.fromkeys(_shown(use.handler_id) for use in waits_for)
    longest = max((use.release_after or 0 for use in waits_for if use.is_released), default=0)
    for_all = longest and all(use.is_released for use in waits_for)
    late = f", for {longest:g} seconds after the deletion at the longest" if for_all else ""
    return f"{' and '.join(ids)} to succeed, or to be given up{late}"


def _cleanups_of(use: Use, uses: Iterable[Use]) -> list[Use]:
    """The cleanups that a dedicated finalizer waits for on the objects of one handler."""
    return [
        other
        for other in uses
        if other.is_cleanup
        and other.finalizer == use.finalizer
        and other.selector.overlaps(use.selector)
    ]


def _resource(selector: Selector) -> tuple[str, bool]:
    """The objects that a handler selects, and whether kubectl knows them under that name."""
    group, version, name = selector.parts()
    where = ".".join(filter(None, [version, group])) if group else ""
    inside = f" in {where}" if where else ""
    if callable(name):
        return f"the resources that {getattr(name, '__qualname__', 'a function')} selects", False
    if not isinstance(name, str):
        return f"all resources{inside}", False
    if dict(selector.options).get("category") == name:
        return f"the resources of the category {name}{inside}", False
    return f"{name}.{where}" if where else name, True


def _shown(handler_id: str) -> str:
    """A handler's id that is the same on every machine: Kopf's ids of lambdas name the folder."""
    kind, colon, place = handler_id.partition(":")
    return f"{kind}:{PurePath(place).name}" if kind == "lambda" and colon else handler_id
