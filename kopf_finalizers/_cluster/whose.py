"""Whose a finalizer is, as far as that is known: by an operator's own files, or by Kubernetes.

A name that merely looks like one of this library's is nobody's here: `other.org/f` may be anything.
What a name says is its domain, and whom to ask; what an object says are the records on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

KOPF_FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"
KOPF_PREFIX = "kopf.zalando.org"

# What Kubernetes itself puts on objects (the sources of Kubernetes 1.36), and what Kopf does.
_KNOWN = {
    "foregroundDeletion": "the garbage collector, which deletes the dependents first",
    "orphan": "the garbage collector, which first lets go of the dependents",
    "kubernetes": "the namespace controller, which deletes what is in the namespace first",
    "kubernetes.io/pvc-protection": "Kubernetes, until no pod uses the claim",
    "kubernetes.io/pv-protection": "Kubernetes, until no claim is bound to the volume",
    "kubernetes.io/vac-protection": "Kubernetes, until no volume uses the class",
    "service.kubernetes.io/load-balancer-cleanup": "the cloud's controller of load balancers",
    "batch.kubernetes.io/job-tracking": "the job controller, until the pod is counted",
    "customresourcecleanup.apiextensions.k8s.io": "Kubernetes, until all objects of it are gone",
    KOPF_FINALIZER: "some Kopf operator that has not chosen a name",
}

Key = tuple[str, str]
"""A group and a plural name: a resource, in whatever version."""


class Whose(StrEnum):
    """Whose a finalizer is to the operator that was asked about."""

    SERVED = "served"
    FORMER = "former"
    ORPHAN = "orphan"
    SAME_DOMAIN = "same domain"
    OTHER = "other"

    @property
    def is_own(self) -> bool:
        """Whether this operator has put it there, in this release or in another."""
        return self in (Whose.SERVED, Whose.FORMER, Whose.ORPHAN)


@dataclass(frozen=True)
class Waiting:
    """One handler that a finalizer waits for.

    Attributes:
        handler: Its id, as in Kopf's logs and records.
        waits_for: What must happen before the finalizer goes.
        leaves: What stays behind when it is released by hand, if the operator says so.
        purpose: What the handler is for, by its docstring.
    """

    handler: str
    waits_for: str
    leaves: str = ""
    purpose: str = ""


@dataclass(frozen=True)
class Operator:
    """What an operator's own files say of its names.

    Attributes:
        name: Its own finalizer.
        prefix: The prefix of its records.
        former: The names that it recognises as its former ones.
        former_prefix: Where its records were; None where they have not moved.
        shares_former: Whether another operator has the same former names.
        served: What it handles, and which finalizers its handlers put on the objects, and why.
        named: What of it a handler names; not what is selected by a function, a category, or all.
        owns: Whether its identity derives a name.
    """

    name: str
    prefix: str
    owns: Callable[[str], bool]
    former: frozenset[str] = frozenset()
    former_prefix: str | None = None
    shares_former: bool = False
    served: Mapping[Key, Mapping[str, tuple[Waiting, ...]]] = field(default_factory=dict)
    named: frozenset[Key] = frozenset()

    def whose(self, finalizer: str, key: Key | None) -> Whose:
        """Whose it is on an object of that resource; of any, where the resource is not known."""
        if self.waiting(finalizer, key):
            return Whose.SERVED
        if finalizer in self.former:
            return Whose.FORMER
        if self.owns(finalizer) or self.waiting(finalizer, None):
            return Whose.ORPHAN
        domain = self.name.partition("/")[0]
        same = finalizer.partition("/")[0] == domain and "/" in finalizer
        return Whose.SAME_DOMAIN if same else Whose.OTHER

    def waiting(self, finalizer: str, key: Key | None) -> tuple[Waiting, ...]:
        """The handlers that it waits for, or that have put it on."""
        places = self.served.values() if key is None else [self.served.get(key, {})]
        found = [one for names in places for one in names.get(finalizer, ())]
        return tuple(dict.fromkeys(found))


def owner_of(finalizer: str, prefixes: set[str], operator: Operator | None, whose: Whose) -> str:
    """Whose it is, in words; empty where nothing is known.

    `prefixes` are those under which Kopf operators keep records on the object: the one that belongs
    to a name of this library's says that an operator of that name has been there.
    """
    if operator is not None and whose.is_own:
        words = {
            Whose.SERVED: f"{operator.name}, which was asked about",
            Whose.FORMER: f"a former name of {operator.name}",
            Whose.ORPHAN: f"{operator.name}, but no handler of this release serves it here",
        }
        return words[whose]
    if finalizer in _KNOWN:
        return _KNOWN[finalizer]
    domain, slash, name = finalizer.partition("/")
    own_name, _, purpose = name.partition(".")
    if slash and f"{own_name}.{domain}" in prefixes:
        what = f", for {purpose}" if purpose else ""
        return f"the Kopf operator {own_name} of {domain}{what}, by its records on the object"
    return ""
