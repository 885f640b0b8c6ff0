"""The objects themselves: what is there, how it changes, and who is told."""

import json
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from .ownership import Entry, Writer, apply_finalizers, updated_owners
from .refusals import ApiError, Body, Problem, metadata_problems, name_problems, quoted, refusal
from .requests import (
    APPLY_PATCH,
    Request,
    Resource,
    Target,
    applied,
    delete_options,
    nameless,
    new_object,
    patch_type,
    patched,
    version_number,
)

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False, built_in=True)
EVENTS = Resource("", "v1", "events", "Event", status=False, built_in=True)
CRDS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
    built_in=True,
)

_VERBS = ["delete", "get", "list", "patch", "create", "update", "watch"]

# What a client may ask for that is not done here: refused, since it would be missed.
_UNSUPPORTED = {
    *("dryRun", "fieldSelector", "labelSelector", "shardSelector"),
    *("limit", "continue", "resourceVersionMatch", "sendInitialEvents"),
}

# All that metadata may have: the server drops the rest without a word.
_METADATA = {
    *("name", "generateName", "namespace", "uid", "resourceVersion", "generation"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    *("labels", "annotations", "ownerReferences", "finalizers", "managedFields"),
}

# Finalizers of the garbage collector: a deletion sets them as its propagation policy says.
_PROPAGATION = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}

_CRD_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


@dataclass(frozen=True)
class Event:
    """A change, as watchers see it."""

    version: int
    resource: str
    namespace: str
    body: Body


class Store:
    """All objects, and the whole history of them.

    Bodies are never changed once they are stored: every change makes a new one.
    """

    def __init__(self) -> None:
        self.history: list[Event] = []
        self._version = 0
        self._objects: dict[tuple[str, str, str], Body] = {}
        for name in ("default", "kube-system"):
            body = json.dumps({"metadata": {"name": name}}).encode()
            self.handle(Request("POST", "/api/v1/namespaces", body))

    def handle(self, request: Request) -> tuple[int, Body]:
        """Answer a request with a status and a body.

        Raises:
            ApiError: The request is refused.
        """
        discovered = self._discover(request.path)
        if discovered and request.method == "GET":
            return 200, discovered
        target = self._target(request)
        writer = Writer(request.manager, target.resource.api_version, _now())
        match request.method, bool(target.name), target.subresource:
            case "GET", True, _:
                return 200, self._get(target)
            case "GET", False, _:
                return 200, self._list(target)
            case "POST", False, _:
                new = new_object(request, target)
                owners = updated_owners({}, new["metadata"].get("finalizers", []), writer)
                return 201, self._create(target, new, owners)
            case "PUT", True, _:
                return 200, self._put(target, new_object(request, target), writer)
            case "PATCH", True, _ if patch_type(request) == APPLY_PATCH:
                return self._apply(target, applied(request, target), writer)
            case "PATCH", True, _:
                old = self._get(target)
                return 200, self._update(target, old, patched(old, request, target), writer)
            case "DELETE", True, "":
                return 200, self._delete(target, delete_options(request))
        message = f"{request.method} is not supported on {request.path}"
        raise refusal(405, "MethodNotAllowed", message, target.resource.details())

    def watch(self, request: Request) -> "Watch | None":
        """Watch a collection, if that is what is asked for.

        Raises:
            ApiError: The request is refused.
        """
        if not request.is_watch or self._discover(request.path):
            return None
        target = self._target(request)
        if target.name:
            return None
        version = request.query.get("resourceVersion") or "0"
        return Watch(self, target, version_number(version))

    def select(self, resource: Resource, namespace: str = "") -> list[Body]:
        """The objects of one kind, in one namespace or in all."""
        return [
            body
            for (kind, inside, _), body in sorted(self._objects.items())
            if kind == resource.qualified and namespace in ("", inside)
        ]

    # Finding out what there is.

    def _resources(self) -> Iterator[Resource]:
        yield from (NAMESPACES, EVENTS, CRDS)
        yield from map(_defined, self.select(CRDS))

    def _discover(self, path: str) -> Body | None:
        groups: dict[str, set[str]] = {}
        for resource in self._resources():
            groups.setdefault(resource.group, set()).add(resource.version)
        named = {g: _group(g, versions) for g, versions in sorted(groups.items()) if g}
        match path.strip("/").split("/"):
            case ["version"]:
                return {"major": "1", "minor": "20", "gitVersion": "v1.20.2+kopf-finalizers"}
            case ["api"]:
                return {"kind": "APIVersions", "versions": ["v1"]}
            case ["apis"]:
                listed = list(named.values())
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
            case ["apis", group] if group in named:
                return {"kind": "APIGroup", "apiVersion": "v1", **named[group]}
            case ["api", version] if version in groups[""]:
                return self._resource_list("", version)
            case ["apis", group, version] if version in groups.get(group, ()):
                return self._resource_list(group, version)
        return None

    def _resource_list(self, group: str, version: str) -> Body:
        listed: list[Body] = []
        for r in self._resources():
            if (r.group, r.version) == (group, version):
                common = {"kind": r.kind, "namespaced": r.namespaced}
                entry = {"name": r.plural, "singularName": r.kind.lower(), **common}
                listed.append({**entry, "verbs": _VERBS})
                if r.status:
                    part = {"name": f"{r.plural}/status", "singularName": "", **common}
                    listed.append({**part, "verbs": ["get", "patch", "update"]})
        name = f"{group}/{version}" if group else version
        return {"kind": "APIResourceList", "groupVersion": name, "resources": listed}

    def _target(self, request: Request) -> Target:
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
                raise _no_such_path()
        found = {r.plural: r for r in self._resources() if (r.group, r.version) == (group, version)}
        match rest:
            case ["namespaces", namespace, plural, *tail] if plural in found and len(tail) <= 2:
                target = Target(found[plural], namespace, *tail)
                known = found[plural].namespaced
            case [plural, *tail] if plural in found and len(tail) <= 2:
                target = Target(found[plural], "", *tail)
                # Across namespaces one can only look.
                known = not found[plural].namespaced or (request.method == "GET" and not tail)
            case _:
                raise _no_such_path()
        if not known:
            raise _no_such_path()
        if target.subresource and (target.subresource != "status" or not target.resource.status):
            raise target.not_found()
        return target

    # Reading and writing.

    def _get(self, target: Target) -> Body:
        try:
            return self._objects[target.key]
        except KeyError:
            raise target.not_found() from None

    def _list(self, target: Target) -> Body:
        return {
            "apiVersion": target.resource.api_version,
            "kind": f"{target.resource.kind}List",
            "metadata": {"resourceVersion": str(self._version), "continue": ""},
            "items": self.select(target.resource, target.namespace),
        }

    def _create(self, target: Target, body: Body, owners: list[Entry]) -> Body:
        resource, metadata = target.resource, dict(body["metadata"])
        if metadata.setdefault("namespace", target.namespace) != target.namespace:
            message = "the namespace of the provided object does not match the namespace sent on"
            raise refusal(400, "BadRequest", f"{message} the request")
        if metadata.pop("resourceVersion", "0") != "0":
            message = "resourceVersion should not be set on objects to be created"
            raise refusal(500, None, message)
        if not metadata.get("name"):
            if "generateName" not in metadata:
                message = "Required value: name or generateName is required"
                raise target.invalid(Problem("metadata.name", message, "FieldValueRequired"))
            # As long as the real server makes them: 58 characters of the prefix, and five more.
            metadata["name"] = f"{metadata['generateName'][:58]}{secrets.token_hex(3)[:5]}"
        target = Target(resource, target.namespace, metadata["name"])
        self._check_room(target)
        for given in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(given, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
        created = {**body, "metadata": _trimmed({**metadata, "managedFields": owners})}
        if resource.status:
            created.pop("status", None)
        problems = [
            *name_problems(metadata, label=resource == NAMESPACES),
            *metadata_problems(created["metadata"], {}),
        ]
        if resource == CRDS:
            problems.extend(_definition_problems(created))
        if problems:
            raise target.invalid(*problems)
        existing = self._objects.get(target.key)
        if existing:
            message = f"{resource.qualified} {quoted(target.name)} already exists"
            if "deletionTimestamp" in existing["metadata"]:
                message = f"object is being deleted: {message}"
            raise refusal(409, "AlreadyExists", message, resource.details(target.name))
        if resource == NAMESPACES:
            created |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        if resource == CRDS:
            created["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        return self._store(target, "ADDED", created)

    def _check_room(self, target: Target) -> None:
        """Nothing is created in what is being deleted."""
        resource = target.resource
        if target.namespace:
            namespace = self._get(Target(NAMESPACES, "", target.namespace))
            if "deletionTimestamp" in namespace["metadata"]:
                message = (
                    f"{resource.qualified} {quoted(target.name)} is forbidden: unable to create"
                    f" new content in namespace {target.namespace} because it is being terminated"
                )
                raise refusal(403, "Forbidden", message, resource.details(target.name))
        definition = self._objects.get(Target(CRDS, "", resource.qualified).key)
        if definition and "deletionTimestamp" in definition["metadata"]:
            message = "create not allowed while custom resource definition is terminating"
            raise refusal(405, "MethodNotAllowed", message, resource.details())

    def _put(self, target: Target, new: Body, writer: Writer) -> Body:
        if "name" not in new["metadata"]:
            raise nameless(target)
        stored = self._objects.get(target.key, {"metadata": {}})["metadata"].get("uid", "")
        uid = new["metadata"].get("uid", stored)
        if uid != stored:
            # A precondition for an update; in a patch, the same is a change of a fixed field.
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}"
            raise target.conflict(why)
        return self._update(target, self._get(target), new, writer)

    def _apply(self, target: Target, given: Body, writer: Writer) -> tuple[int, Body]:
        finalizers = given.get("finalizers") or []
        old = self._objects.get(target.key)
        if old is None:
            if "uid" in given:
                why = f"the provided object specified uid {given['uid']}, and no existing object"
                raise target.conflict(f"uid mismatch: {why} was found")
            changes = apply_finalizers({}, finalizers, writer)
            resource = target.resource
            new: Body = {"apiVersion": resource.api_version, "kind": resource.kind}
            new["metadata"] = {"name": target.name, "finalizers": changes["finalizers"]}
            return 201, self._create(target, new, changes["managedFields"])
        changes = apply_finalizers(old["metadata"], finalizers, writer)
        new = {**old, "metadata": {**old["metadata"], **given, **changes}}
        return 200, self._update(target, old, new, writer, changes["managedFields"])

    def _update(
        self,
        target: Target,
        old: Body,
        new: Body,
        writer: Writer,
        owners: list[Entry] | None = None,
    ) -> Body:
        """Store what has become of an object, as far as it may be changed."""
        before, metadata = old["metadata"], dict(new["metadata"])
        _check_identity(target, metadata, before)
        fixed = {"metadata", "status"} if target.resource.status else {"metadata"}
        if target.subresource:
            # The way to the status leads to nothing else: not even to metadata.
            rest = {k: v for k, v in old.items() if k != "status"}
            new = {**rest, **({"status": new["status"]} if "status" in new else {})}
            metadata = before
        else:
            if target.resource.status:
                rest = {k: v for k, v in new.items() if k != "status"}
                new = {**rest, **({"status": old["status"]} if "status" in old else {})}
            finalizers = metadata.get("finalizers", [])
            metadata["managedFields"] = (
                updated_owners(before, finalizers, writer) if owners is None else owners
            )
            metadata |= {k: before[k] for k in ("creationTimestamp", "generation")}
            metadata.setdefault("uid", before["uid"])
            if "deletionTimestamp" in before:
                metadata["deletionTimestamp"] = before["deletionTimestamp"]
                metadata.setdefault("deletionGracePeriodSeconds", 0)
            metadata = _trimmed(metadata)
            problems = [*metadata_problems(metadata, before)]
            if target.resource == CRDS and new["spec"] != old["spec"]:
                problems.append(Problem("spec", "Forbidden: cannot be changed on this server"))
            if problems:
                raise target.invalid(*problems)
        if {k: v for k, v in new.items() if k not in fixed} != {
            k: v for k, v in old.items() if k not in fixed
        }:
            metadata = {**metadata, "generation": before["generation"] + 1}
        new = {**new, "metadata": metadata}
        if new == old:
            return old
        if "deletionTimestamp" in metadata and "finalizers" not in metadata:
            self._remove(target)
            return new
        return self._store(target, "MODIFIED", new)

    # Going away.

    def _delete(self, target: Target, options: Body) -> Body:
        old = self._get(target)
        metadata, resource = old["metadata"], target.resource
        _check_preconditions(target, metadata, options.get("preconditions") or {})
        finalizers = metadata.get("finalizers", [])
        if "propagationPolicy" in options:
            finalizers = [f for f in finalizers if f not in _PROPAGATION.values()]
            policy = _PROPAGATION.get(options["propagationPolicy"])
            finalizers += [policy] if policy else []
        if resource == CRDS and _CRD_CLEANUP not in finalizers:
            finalizers = [*finalizers, _CRD_CLEANUP]
        if not finalizers and resource != NAMESPACES:
            self._remove(target)
            details = {**resource.details(target.name), "uid": metadata["uid"]}
            return {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            }
        changed = {**metadata, "finalizers": finalizers}
        if "deletionTimestamp" not in metadata:
            changed |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
            changed["generation"] = metadata["generation"] + 1
        new = {**old, "metadata": _trimmed(changed)}
        if resource == NAMESPACES:
            # The real one waits for a controller to empty it; there is none here.
            new["status"] = {"phase": "Terminating"}
        if new != old:
            new = self._store(target, "MODIFIED", new)
        if resource == CRDS:
            self._delete_all_of(target)
        return new

    def _delete_all_of(self, definition: Target) -> None:
        """A definition takes all its objects with it, and waits for their finalizers."""
        resource = _defined(self._get(definition))
        for body in self.select(resource):
            metadata = body["metadata"]
            self._delete(Target(resource, metadata.get("namespace", ""), metadata["name"]), {})
        self._finish(definition, resource)

    def _finish(self, definition: Target, resource: Resource) -> None:
        """A definition that is being deleted goes when nothing of its kind is left."""
        body = self._objects.get(definition.key)
        if not body or "deletionTimestamp" not in body["metadata"] or self.select(resource):
            return
        finalizers = [f for f in body["metadata"]["finalizers"] if f != _CRD_CLEANUP]
        if not finalizers:
            self._remove(definition)
        else:
            metadata = {**body["metadata"], "finalizers": finalizers}
            self._store(definition, "MODIFIED", {**body, "metadata": metadata})

    def _remove(self, target: Target) -> None:
        # Watchers are told the last state that was stored, with the version of the deletion.
        self._record(target, "DELETED", self._objects.pop(target.key))
        self._finish(Target(CRDS, "", target.resource.qualified), target.resource)

    def _store(self, target: Target, change: str, body: Body) -> Body:
        self._objects[target.key] = stored = self._record(target, change, body)
        return stored

    def _record(self, target: Target, change: str, body: Body) -> Body:
        self._version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self._version)}
        body = {**body, "metadata": metadata}
        event = {"type": change, "object": body}
        resource = target.resource.qualified
        self.history.append(Event(self._version, resource, target.namespace, event))
        return body


class Watch:
    """What changes in one collection, from where it starts on."""

    def __init__(self, store: Store, target: Target, since: int) -> None:
        self._store = store
        self._resource = target.resource.qualified
        self._namespace = target.namespace
        self._initial: list[Body] = []
        self._seen = len(store.history)
        if since:
            self._seen = sum(e.version <= since for e in store.history)
        else:
            present = store.select(target.resource, target.namespace)
            self._initial = [{"type": "ADDED", "object": body} for body in present]

    def news(self) -> list[Body]:
        """What has happened since the last call."""
        news, self._initial = self._initial, []
        for event in self._store.history[self._seen :]:
            if event.resource == self._resource and self._namespace in ("", event.namespace):
                news.append(event.body)
        self._seen = len(self._store.history)
        return news


def _check_identity(target: Target, metadata: Body, before: Body) -> None:
    name, namespace = metadata["name"], metadata.get("namespace", target.namespace)
    if name != target.name:
        message = f"the name of the object ({name}) does not match the name on the URL"
        raise refusal(400, "BadRequest", f"{message} ({target.name})")
    if namespace != target.namespace:
        message = f"the namespace of the object ({namespace}) does not match the namespace on the"
        raise refusal(400, "BadRequest", f"{message} request ({target.namespace})")
    version = metadata.get("resourceVersion")
    if version is None:
        message = "Invalid value: 0x0: must be specified for an update"
        raise target.invalid(Problem("metadata.resourceVersion", message))
    if version_number(version) != int(before["resourceVersion"]):
        why = "the object has been modified; please apply your changes to the latest version and"
        raise target.conflict(f"{why} try again")


def _check_preconditions(target: Target, metadata: Body, preconditions: Body) -> None:
    for field, name, advice in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        wanted, found = preconditions.get(field), metadata[field]
        if wanted not in (None, found):
            why = f"the {name} in the precondition ({wanted}) does not match the {name} in record"
            raise target.conflict(f"{why} ({found}). The object might have been {advice}")


def _group(group: str, versions: set[str]) -> Body:
    listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in sorted(versions)]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _defined(definition: Body) -> Resource:
    """The resource that a definition brings."""
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


def _definition_problems(definition: Body) -> Iterator[Problem]:
    """Check what is needed of a definition: schemas are neither checked nor used."""
    try:
        resource = _defined(definition)
        versions = definition["spec"]["versions"]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        yield Problem("spec", f"Required value: {error!r}", "FieldValueRequired")
        return
    if definition["metadata"]["name"] != f"{resource.plural}.{resource.group}":
        message = f"Invalid value: {quoted(definition['metadata']['name'])}: must be"
        yield Problem("metadata.name", f'{message} spec.names.plural+"."+spec.group')
    if len(versions) != 1:
        yield Problem("spec.versions", "Forbidden: this server serves one version of a resource")


def _no_such_path() -> ApiError:
    return refusal(404, "NotFound", "the server could not find the requested resource")


def _trimmed(metadata: Body) -> Body:
    """What is kept of metadata: nothing empty, nothing unknown."""
    return {k: v for k, v in metadata.items() if k in _METADATA and v not in ([], {}, "")}


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
