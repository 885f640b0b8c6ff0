"""Which resources a cluster serves, and which one a name of kubectl's means.

Every version of every group is asked, since a resource may be served in a version that its group
does not prefer. Each resource is listed once: in the preferred version if it is there. What could
not be asked is kept, with the reason: an aggregated API that is down hides its objects.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .access import Cluster, ClusterError, RefusedError

# The same objects under two groups: they are looked at in the first one (DefaultStorageFactory of
# kube-apiserver, Kubernetes 1.20 to 1.36).
_TWICE = {
    "events": ("", "events.k8s.io"),
    "ingresses": ("networking.k8s.io", "extensions"),
    "networkpolicies": ("networking.k8s.io", "extensions"),
    "podsecuritypolicies": ("policy", "extensions"),
    "daemonsets": ("apps", "extensions"),
    "deployments": ("apps", "extensions"),
    "replicasets": ("apps", "extensions"),
}


@dataclass(frozen=True)
class Unseen:
    """What could not be looked at, and why: in each report, and in the exit code.

    Attributes:
        what: A resource, or a version of a group.
        why: In words.
        status: The HTTP status; None where there was no answer.
    """

    what: str
    why: str
    status: int | None = None

    @classmethod
    def of(cls, what: str, error: ClusterError) -> "Unseen":
        """What a request that failed leaves unseen."""
        if not isinstance(error, RefusedError):
            return cls(what, str(error))
        return cls(what, f"{error.status} {error.reason}: {error.words}", error.status)


@dataclass(frozen=True)
class Resource:
    """A kind of objects that the cluster serves, in the version in which it is asked for them."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: frozenset[str] = frozenset()
    subresources: frozenset[str] = frozenset()
    preferred: bool = True

    @property
    def name(self) -> str:
        """As kubectl shows it: `databases.mycompany.com`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """The group and the version, as objects have it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def is_kubernetes_own(self) -> bool:
        """Whether it belongs to Kubernetes, as far as its group says: these are not a chart's."""
        return "." not in self.group or self.group.endswith(".k8s.io")

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The path of the objects, in all namespaces or in one, or of one of them."""
        base = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{quote(namespace)}" if namespace and self.namespaced else ""
        return f"{base}{inside}/{self.plural}" + (f"/{quote(name)}" if name else "")

    def is_called(self, name: str) -> bool:
        """Whether kubectl would take that name for it, group and version aside."""
        lower = name.lower()
        return lower in (self.plural, self.singular or self.kind.lower(), self.kind.lower()) or (
            lower in self.short_names
        )


@dataclass(frozen=True)
class Served:
    """What a cluster serves: each resource in each version, in kubectl's order of preference."""

    every: Sequence[Resource]
    unseen: Sequence[Unseen] = ()

    def listed(self) -> list[Resource]:
        """Each resource once, if its objects can be listed at all."""
        found = dict[tuple[str, str], Resource]()
        for one in self.every:
            known = found.get((one.group, one.plural))
            if known is None or (one.preferred and not known.preferred):
                found[one.group, one.plural] = one
        return [
            one
            for one in found.values()
            if "list" in one.verbs and not _is_second(one, found.keys())
        ]

    def without_list(self) -> list[Unseen]:
        """What can be deleted, and so be stuck, and not be listed."""
        hidden = {one.name for one in self.every if "delete" in one.verbs}
        shown = {one.name for one in self.every if "list" in one.verbs}
        return [
            Unseen(name, "its objects can be deleted but not listed")
            for name in sorted(hidden - shown)
        ]

    def named(self, name: str) -> Resource:
        """The resource that kubectl would take this name for.

        Raises:
            ClusterError: There is none.
        """
        matching = [one for one in self.every if _matches(one, name)]
        best = next((one for one in matching if one.preferred), None) or next(iter(matching), None)
        if best is not None:
            return best
        hint = "".join(f" {one.what} could not be asked ({one.why})." for one in self.unseen)
        raise ClusterError(f'The cluster has no resource "{name}".{hint}')


def _matches(one: Resource, name: str) -> bool:
    """`databases`, `databases.mycompany.com` or `databases.v1.mycompany.com`."""
    if one.is_called(name):
        return True
    plain, dot, rest = name.partition(".")
    in_version = f"{one.version}.{one.group}" if one.group else one.version
    return bool(dot) and one.is_called(plain) and rest in (one.group, in_version)


def _is_second(one: Resource, names: Iterable[tuple[str, str]]) -> bool:
    """Whether the same objects are seen under another group."""
    first, second = _TWICE.get(one.plural, ("", ""))
    return one.group == second != first and (first, one.plural) in names


def discover(cluster: Cluster) -> Served:
    """Ask a cluster what it serves.

    Raises:
        ClusterError: It does not even say which groups there are.
    """
    groups = cluster.get("/apis").get("groups") or []
    asked = [("v1", "/api/v1", True)]
    for group in groups:
        preferred = group["preferredVersion"]["groupVersion"]
        others = (one["groupVersion"] for one in group["versions"])
        # The preferred one first: it is the one that a name without a version means.
        for version in dict.fromkeys([preferred, *others]):
            asked += [(version, f"/apis/{version}", version == preferred)]
    every, unseen = list[Resource](), list[Unseen]()
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda one: _asked(cluster, one[1]), asked)
        for (version, _, preferred), answer in zip(asked, answers, strict=True):
            if isinstance(answer, ClusterError):
                unseen.append(Unseen.of(version, answer))
            else:
                every += _resources(version, answer, preferred=preferred)
    return Served(every, unseen)


def _asked(cluster: Cluster, path: str) -> list[dict[str, Any]] | ClusterError:
    try:
        return cluster.get(path).get("resources") or []
    except ClusterError as error:
        return error


def _resources(
    group_version: str, told: Iterable[dict[str, Any]], *, preferred: bool
) -> Iterable[Resource]:
    group, _, version = group_version.rpartition("/")
    told = list(told)
    for one in told:
        plural = one["name"]
        if "/" in plural:
            continue
        below = (other["name"] for other in told if other["name"].startswith(f"{plural}/"))
        yield Resource(
            group=group,
            version=version,
            plural=plural,
            kind=one["kind"],
            namespaced=bool(one.get("namespaced")),
            singular=one.get("singularName") or one["kind"].lower(),
            short_names=tuple(one.get("shortNames") or ()),
            categories=tuple(one.get("categories") or ()),
            verbs=frozenset(one.get("verbs") or ()),
            subresources=frozenset(name.partition("/")[2] for name in below),
            preferred=preferred,
        )
