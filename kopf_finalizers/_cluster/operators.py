"""What an operator's own files say of its names, on the resources that a cluster serves."""

from collections.abc import Collection, Iterable, Mapping

import kopf

from .._dedicated.uses import Use
from .._finalizers import Finalizers
from .._inventory import ByHand, selected_entries, uses_of_kopf
from .._kopf import handlers_of, selected_by
from .._resources import Selector, selector_of
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
    named = set[Key]()

    def keys_of(selected: Collection[kopf.Resource]) -> Iterable[Key]:
        return [_ANY] if served is None else {(one.group, one.plural) for one in selected}

    own, dedicated, by_hand = _uses_of(finalizers)
    for selector, handler_id, entry in selected_entries(own, dedicated, by_hand):
        waiting = Waiting(handler_id, entry.waits_for, entry.leaves or "", entry.purpose or "")
        for key in keys_of(selected_by(selector.args, dict(selector.options), resources)):
            found.setdefault(key, {}).setdefault(entry.name, []).append(waiting)
            named.update([key] if _names_one(selector) else [])
    for handler in handlers_of(_registry_of(finalizers)):
        for key in keys_of(handler.selector.select(resources)):
            found.setdefault(key, {})
            named.update([key] if _names_one(selector_of(handler)) else [])
    former, prefix, is_shared = _former_of(finalizers)
    return Operator(
        name=finalizers.name,
        prefix=finalizers.identity.storage_prefix,
        owns=finalizers.identity.owns,
        former=former,
        former_prefix=prefix,
        shares_former=is_shared,
        served={key: _settled(names) for key, names in found.items()},
        named=frozenset(named),
    )


def handled_by(registry: kopf.OperatorRegistry, served: Served) -> list[Resource]:
    """The resources of handlers that may need a finalizer, or have records."""
    resources = [_to_kopf(one) for one in served.every]
    selected = (
        one for handler in handlers_of(registry) for one in handler.selector.select(resources)
    )
    keys = {(one.group, one.plural) for one in selected}
    return [one for one in served.listed() if (one.group, one.plural) in keys]


def _names_one(selector: Selector) -> bool:
    """Whether a handler says which resource it is for, by a name of that resource."""
    _, _, name = selector.parts()
    return isinstance(name, str) and dict(selector.options).get("category") != name


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
    own = finalizers._guarded  # noqa: SLF001
    kopfs = uses_of_kopf(finalizers.name, _registry_of(finalizers), own)
    return [*own, *kopfs], dedicated, by_hand


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
