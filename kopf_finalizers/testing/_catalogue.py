"""Which resources there are: built in or defined, discovered by clients, found by path."""

import re
from collections.abc import Iterable
from typing import Any

from ._definitions import DEFINITIONS
from ._refusals import ApiError, Body, refusal
from ._requests import Request, Resource, Target


def _built_in(version: str, plural: str, kind: str, *short_names: str, **more: Any) -> Resource:
    group, _, name = version.rpartition("/")
    # No singular: a server of 1.20 has none for what is built in.
    more = {"built_in": True, "short_names": short_names, **more}
    return Resource(group, name, plural, kind, **more)


NAMESPACES = _built_in("v1", "namespaces", "Namespace", "ns", namespaced=False)
EVENTS = _built_in("v1", "events", "Event", "ev", status=False)
INGRESSES = _built_in("networking.k8s.io/v1beta1", "ingresses", "Ingress", "ing")
PODS = _built_in("v1", "pods", "Pod", "po", categories=("all",))
_OF_ALL: Any = {"categories": ("all",)}

# Fields of these kinds are neither checked nor filled in.
BUILT_IN = (
    NAMESPACES,
    EVENTS,
    PODS,
    _built_in("v1", "bindings", "Binding", status=False, verbs=("create",)),
    _built_in("v1", "configmaps", "ConfigMap", "cm", status=False),
    _built_in("v1", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc"),
    _built_in("v1", "secrets", "Secret", status=False),
    _built_in("v1", "serviceaccounts", "ServiceAccount", "sa", status=False),
    _built_in("v1", "services", "Service", "svc", **_OF_ALL),
    _built_in("apps/v1", "deployments", "Deployment", "deploy", **_OF_ALL),
    INGRESSES,
    _built_in("extensions/v1beta1", "ingresses", "Ingress", "ing", same_as=INGRESSES.qualified),
    DEFINITIONS,
)
# Their objects can be selected by more than their names.
_MORE_FIELDS = {
    NAMESPACES.qualified: ("status.phase",),
    PODS.qualified: ("status.phase", "spec.nodeName"),
    EVENTS.qualified: (
        *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name"),
        *("involvedObject.uid", "involvedObject.apiVersion", "reason", "type"),
    ),
}

# What is not offered while a definition is being deleted, and still done.
_NO_MORE = ("create", "patch", "update")

# What a client may ask for that is not done here: refused, since it would be missed.
_UNSUPPORTED = {
    *("dryRun", "shardSelector", "resourceVersionMatch", "sendInitialEvents"),
}


def discover(path: str, resources: Iterable[Resource]) -> Body | None:
    """Answer what clients ask to find out what there is; none if the path asks for something else.

    Groups are made of what is served: a group without resources is not there.
    """
    groups: dict[str, set[str]] = {}
    for resource in resources:
        groups.setdefault(resource.group, set()).add(resource.version)
    named = {g: _group(g, versions) for g, versions in sorted(groups.items()) if g}
    match path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "20", "gitVersion": "v1.20.2+kopf-finalizers"}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(named.values())}
        case ["apis", group] if group in named:
            return {"kind": "APIGroup", "apiVersion": "v1", **named[group]}
        case ["api", version] if version in groups[""]:
            return _resource_list("", version, resources)
        case ["apis", group, version] if version in groups.get(group, ()):
            return _resource_list(group, version, resources)
    return None


def find(request: Request, resources: Iterable[Resource]) -> Target:
    """Find what a path leads to.

    Raises:
        ApiError: It leads nowhere, or the query asks for what this server cannot do.
    """
    unsupported = sorted(_UNSUPPORTED & set(request.query))
    if unsupported:
        message = f"not supported by this API server for tests: {', '.join(unsupported)}"
        raise refusal(400, "BadRequest", message)
    match request.path.strip("/").split("/"):
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case ["apis", group]:
            raise _nowhere(group)
        case _:
            raise _nowhere("")
    found = {r.plural: r for r in resources if (r.group, r.version) == (group, version)}
    match rest:
        case ["namespaces", namespace, plural, *tail] if plural in found and len(tail) <= 2:
            target = Target(found[plural], namespace, *tail)
            exists = found[plural].namespaced
        case [plural, *tail] if plural in found and len(tail) <= 2:
            target = Target(found[plural], "", *tail)
            # Across namespaces one can only look.
            exists = not found[plural].namespaced or (request.method == "GET" and not tail)
        case _:
            raise _nowhere(group)
    if not exists:
        raise _nowhere(group)
    if target.subresource and (target.subresource != "status" or not target.resource.status):
        raise target.not_found()
    return target


def selectable(resource: Resource) -> tuple[str, ...]:
    """The fields that objects can be selected by."""
    names = ("metadata.name", "metadata.namespace")
    return (*names, *_MORE_FIELDS.get(resource.qualified, ()))


def _group(group: str, versions: set[str]) -> Body:
    ordered = sorted(versions, key=_priority)
    listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in ordered]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _priority(version: str) -> tuple[int, int, int, str]:
    """Which version comes first: v2, v1, v2beta1, v1beta2, v1beta1, v1alpha1, and then others."""
    found = re.fullmatch(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?", version)
    if not found:
        return 3, 0, 0, version
    level = {None: 0, "beta": 1, "alpha": 2}[found[2]]
    return level, -int(found[1]), -int(found[3] or 0), ""


def _resource_list(group: str, version: str, resources: Iterable[Resource]) -> Body:
    listed: list[Body] = []
    for r in resources:
        if (r.group, r.version) == (group, version):
            common = {"kind": r.kind, "namespaced": r.namespaced}
            verbs = [verb for verb in r.verbs if not (r.terminating and verb in _NO_MORE)]
            entry: Body = {"name": r.plural, "singularName": r.singular, **common, "verbs": verbs}
            entry |= {"shortNames": list(r.short_names)} if r.short_names else {}
            entry |= {"categories": list(r.categories)} if r.categories else {}
            listed.append(entry)
            if r.status:
                part = {"name": f"{r.plural}/status", "singularName": "", **common}
                listed.append({**part, "verbs": ["get", "patch", "update"]})
    name = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": name,
        "resources": listed,
    }


def _nowhere(group: str) -> ApiError:
    if group in {resource.group for resource in BUILT_IN}:
        return refusal(404, "NotFound", "the server could not find the requested resource")
    # What is asked of custom resources, or of nothing, is answered with a line of text.
    return ApiError(404, "404 page not found", {})
