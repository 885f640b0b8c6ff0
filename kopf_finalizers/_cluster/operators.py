"""What an operator's own files say of its names, on the resources that a cluster serves."""

from collections.abc import Collection, Iterable, Mapping

import kopf

from .._dedicated.uses import Use
from .._finalizers import Finalizers
from .._inventory import ByHand, selected_entries
from .._kopf import handlers_of, selected_by
from .discovery import Resource, Served
from .whose import Key, Operator, Waiting

# Where there is no cluster, nobody knows which resource a selector means: all are taken for one.
_ANY: Key = ("", "")


def operator_of(finalizers: Finalizers, served: Served | None) -> Operator:
    """An operator's names, each on the resources of the handlers that put it there.

    Kopf itself says which resources these are, of those that the cluster serves; without a cluster
    a name is on any resource.
    """
    resources = [] if served is None else [_to_kopf(one) for one in served.every]
    found = dict[Key, dict[str, list[Waiting]]]()

    def keys_of(selected: Collection[kopf.Resource]) -> Iterable[Key]:
        return [_ANY] if served is None else {(one.group, one.plural) for one in selected}

    known = set[str]()
    for selector, handler_id, entry in selected_entries(*_uses_of(finalizers)):
        known.add(handler_id)
        waiting = Waiting(handler_id, entry.waits_for, entry.leaves or "")
        selected = selected_by(selector.args, dict(selector.options), resources)
        for key in keys_of(selected):
            found.setdefault(key, {}).setdefault(entry.name, []).append(waiting)
    for handler in handlers_of(_registry_of(finalizers)):
        waiting = Waiting(handler.id, f"{handler.id}, which Kopf's own decorators declare, to end")
        for key in keys_of(handler.selector.select(resources)):
            names = found.setdefault(key, {})
            if handler.requires_finalizer and handler.id not in known:
                names.setdefault(finalizers.name, []).append(waiting)
    former, prefix, is_shared = _former_of(finalizers)
    return Operator(
        name=finalizers.name,
        prefix=finalizers.identity.storage_prefix,
        owns=finalizers.identity.owns,
        former=former,
        former_prefix=prefix,
        shares_former=is_shared,
        served={key: _settled(names) for key, names in found.items()},
    )


def _settled(names: Mapping[str, Iterable[Waiting]]) -> dict[str, tuple[Waiting, ...]]:
    return {name: tuple(waiting) for name, waiting in names.items()}


def _to_kopf(one: Resource) -> kopf.Resource:
    return kopf.Resource(
        group=one.group,
        version=one.version,
        plural=one.plural,
        kind=one.kind,
        singular=one.singular,
        shortcuts=frozenset(one.short_names),
        categories=frozenset(one.categories),
        subresources=one.subresources,
        namespaced=one.namespaced,
        preferred=one.preferred,
        verbs=one.verbs,
    )


# What an operator's `Finalizers` know, and nobody else asks.


def _uses_of(finalizers: Finalizers) -> tuple[list[Use], list[Use], list[ByHand]]:
    """What puts an operator's own finalizer on objects, what dedicated ones, what is by hand."""
    dedicated, by_hand = finalizers._dedicated.uses, finalizers._by_hand  # noqa: SLF001
    return finalizers._guarded, dedicated, by_hand  # noqa: SLF001


def _registry_of(finalizers: Finalizers) -> kopf.OperatorRegistry:
    """Where the handlers of an operator are registered."""
    return finalizers._registry or kopf.get_default_registry()  # noqa: SLF001


def _former_of(finalizers: Finalizers) -> tuple[frozenset[str], str | None, bool]:
    """All former names, the prefix of the former records, and whether another operator has both."""
    names = {*finalizers.former, *finalizers._dedicated.former}  # noqa: SLF001
    rename = finalizers._rename  # noqa: SLF001
    if rename is None:
        return frozenset(names), None, False
    return frozenset(names), rename.former_storage_prefix, rename.former_is_shared
