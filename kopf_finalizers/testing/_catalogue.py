"""Which resources there are: built in or defined, discovered by clients, found by path."""

from collections.abc import Iterable, Iterator

from ._refusals import ApiError, Body, Problem, quoted, refusal
from ._requests import Request, Resource, Target

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False, built_in=True)
EVENTS = Resource("", "v1", "events", "Event", status=False, built_in=True)
DEFINITIONS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
    built_in=True,
)
BUILT_IN = (NAMESPACES, EVENTS, DEFINITIONS)

_VERBS = ["delete", "get", "list", "patch", "create", "update", "watch"]

# What a client may ask for that is not done here: refused, since it would be missed.
_UNSUPPORTED = {
    *("dryRun", "fieldSelector", "labelSelector", "shardSelector"),
    *("limit", "continue", "resourceVersionMatch", "sendInitialEvents"),
}


def custom_resource_definition(
    group: str,
    version: str,
    plural: str,
    *,
    kind: str | None = None,
    namespaced: bool = True,
    status: bool = True,
) -> Body:
    """A definition that keeps whatever fields its objects have."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served: Body = {"name": version, "served": True, "storage": True}
    served |= {"schema": {"openAPIV3Schema": schema}}
    served |= {"subresources": {"status": {}}} if status else {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"plural": plural, "kind": kind or plural.removesuffix("s").capitalize()},
            "versions": [served],
        },
    }


def defined(definition: Body) -> Resource:
    """The resource that a custom resource definition brings."""
    spec = definition["spec"]
    version = spec["versions"][0]
    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=spec["names"]["plural"],
        kind=spec["names"]["kind"],
        namespaced=spec["scope"] == "Namespaced",
        status="status" in version.get("subresources", {}),
    )


def definition_problems(definition: Body) -> Iterator[Problem]:
    """Check what is needed of a definition: schemas are neither checked nor used."""
    try:
        resource = defined(definition)
    except (LookupError, TypeError, AttributeError) as error:
        yield Problem("spec", f"Required value: {error!r}", "FieldValueRequired")
        return
    name = definition["metadata"]["name"]
    if name != resource.qualified:
        message = f'Invalid value: {quoted(name)}: must be spec.names.plural+"."+spec.group'
        yield Problem("metadata.name", message)
    if len(definition["spec"]["versions"]) != 1:
        yield Problem("spec.versions", "Forbidden: this server serves one version of a resource")


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
        case _:
            raise _nowhere()
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
            raise _nowhere()
    if not exists:
        raise _nowhere()
    if target.subresource and (target.subresource != "status" or not target.resource.status):
        raise target.not_found()
    return target


def _group(group: str, versions: set[str]) -> Body:
    listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in sorted(versions)]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _resource_list(group: str, version: str, resources: Iterable[Resource]) -> Body:
    listed: list[Body] = []
    for r in resources:
        if (r.group, r.version) == (group, version):
            common = {"kind": r.kind, "namespaced": r.namespaced}
            entry = {"name": r.plural, "singularName": r.kind.lower(), **common}
            listed.append({**entry, "verbs": _VERBS})
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


def _nowhere() -> ApiError:
    return refusal(404, "NotFound", "the server could not find the requested resource")
