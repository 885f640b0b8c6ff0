"""The objects themselves: what is there, what is asked of it, and who is told of changes."""

import json
from itertools import chain

from ._catalogue import BUILT_IN, NAMESPACES, discover, find, selectable
from ._changes import (
    CLEANUP,
    check_address,
    check_preconditions,
    created,
    is_free,
    marked,
    now,
    updated,
)
from ._definitions import DEFINITIONS, defined
from ._ownership import Entry, Writer, apply_finalizers, updated_owners
from ._reading import asked_form, asked_page, selection
from ._refusals import ApiError, Body, quoted, refusal
from ._requests import (
    APPLY_PATCH,
    Request,
    Resource,
    Target,
    applied,
    check_verbs,
    delete_options,
    nameless,
    new_object,
    patch_type,
    patched,
    version_number,
)
from ._watches import Event, Watch

_MAX_BODY = 3 * 1024 * 1024


class Store:
    """All objects, and the whole history of them."""

    def __init__(self) -> None:
        self.history: list[Event] = []
        # What happened before is not known any more.
        self.oldest = 0
        self._served: list[Resource] = []
        self._objects: dict[tuple[str, str, str], Body] = {}
        for name in ("default", "kube-system"):
            body = json.dumps({"metadata": {"name": name}}).encode()
            self.handle(Request("POST", "/api/v1/namespaces", body))

    def handle(self, request: Request) -> tuple[int, Body]:
        """Answer a request with a status and a body.

        Raises:
            ApiError: The request is refused.
        """
        if len(request.body) > _MAX_BODY:
            message = f"Request entity too large: limit is {_MAX_BODY}"
            raise refusal(413, "RequestEntityTooLarge", message)
        resources = self._resources()
        discovered = discover(request.path, resources)
        if discovered and request.method == "GET":
            return 200, discovered
        if discovered:
            raise _not_allowed(request)
        form = asked_form(request.accept)
        status, answer = self._handle(request, find(request, resources))
        return status, form.of(answer)

    def _handle(self, request: Request, target: Target) -> tuple[int, Body]:
        check_verbs(request, target)
        writer = Writer(request.manager, target.resource.api_version, now())
        match request.method, bool(target.name), target.subresource:
            case "GET", True, _:
                return 200, self._get(target)
            case "GET", False, _:
                return 200, self._list(target, request)
            case "POST", False, _:
                new = new_object(request, target)
                owners = updated_owners({}, new["metadata"], writer)
                return 201, self._create(target, new, owners)
            case "PUT", True, _:
                return 200, self._put(target, new_object(request, target), writer)
            case "PATCH", True, _ if patch_type(request) == APPLY_PATCH:
                return self._apply(target, applied(request, target), writer)
            case "PATCH", True, _:
                new = patched(self._get(target), request, target)
                return 200, self._update(target, new, writer)
            case "DELETE", True, "":
                return 200, self._delete(target, delete_options(request))
            case "DELETE", False, _:
                return 200, self._delete_selected(target, request)
        raise _not_allowed(request)

    def watch(self, request: Request) -> "Watch | None":
        """Watch a collection, if that is what is asked for.

        Raises:
            ApiError: The request is refused.
        """
        resources = self._resources()
        if not request.is_watch or discover(request.path, resources):
            return None
        target = find(request, resources)
        if target.name:
            return None
        check_verbs(request, target)
        version = version_number(request.query.get("resourceVersion") or "0")
        selected = selection(request.query, selectable(target.resource))
        return Watch(self, target, version, selected, asked_form(request.accept))

    def forget_history(self) -> None:
        """Forget what objects were like before."""
        self.oldest = len(self.history)

    def select(
        self, resource: Resource, namespace: str = "", version: int | None = None
    ) -> list[Body]:
        """The objects of one kind, in one namespace or in all, as one version shows them.

        Args:
            resource: The kind, and its version.
            namespace: The namespace; empty for all.
            version: As of which version of the store; by default as they are now.
        """
        objects = self._objects
        if version is not None and version < len(self.history):
            objects = {}
            for event in self.history[:version]:
                metadata = event.body["object"]["metadata"]
                key = event.resource, event.namespace, metadata["name"]
                objects[key] = event.body["object"]
                if event.body["type"] == "DELETED":
                    del objects[key]
        found = [
            key for key in objects if key[0] == resource.stored_as and namespace in ("", key[1])
        ]
        return [resource.view(objects[key]) for key in sorted(found)]

    def definition_of(self, resource: Resource) -> Body | None:
        """How a resource is defined; none if it is built in, or gone."""
        definition = self._objects.get(Target(DEFINITIONS, "", resource.qualified).key)
        spec: Body | None = definition and definition["spec"]
        return spec

    def _resources(self) -> list[Resource]:
        if not self._served:
            versions = chain.from_iterable(map(defined, self.select(DEFINITIONS)))
            self._served = [*BUILT_IN, *(version for version in versions if version.served)]
        return self._served

    # Reading.

    def _get(self, target: Target) -> Body:
        try:
            return target.resource.view(self._objects[target.key])
        except KeyError:
            raise target.not_found() from None

    def _list(self, target: Target, request: Request) -> Body:
        resource = target.resource
        selected = selection(request.query, selectable(resource))
        page = asked_page(request.query, self.oldest)
        present = self.select(resource, target.namespace, page.version)
        matching = [o for o in present if selected.has(o) and _key_in(target, o) > page.after]
        items = matching[: page.limit or None]
        version = len(self.history) if page.version is None else page.version
        metadata: Body = {"resourceVersion": str(version), "continue": ""}
        if len(items) < len(matching):
            metadata["continue"] = page.continued(_key_in(target, items[-1]), version)
            if selected.is_all:
                metadata["remainingItemCount"] = len(matching) - len(items)
        kind = f"{resource.kind}List"
        listed = {"apiVersion": resource.api_version, "kind": kind, "metadata": metadata}
        return {**listed, "items": items}

    # Writing.

    def _create(self, target: Target, body: Body, owners: list[Entry]) -> Body:
        resource = target.resource
        self._check_room(target, body["metadata"].get("name", ""))
        new = created(target, body, owners)
        name = new["metadata"]["name"]
        target = Target(resource, target.namespace, name)
        existing = self._objects.get(target.key)
        if existing:
            message = f"{resource.qualified} {quoted(name)} already exists"
            if "deletionTimestamp" in existing["metadata"]:
                message = f"object is being deleted: {message}"
            raise refusal(409, "AlreadyExists", message, resource.details(name))
        return self._store(target, "ADDED", new)

    def _check_room(self, target: Target, name: str) -> None:
        """Nothing is created in what is not there, or is being deleted."""
        resource = target.resource
        if target.namespace:
            namespace = self._get(Target(NAMESPACES, "", target.namespace))
            if "deletionTimestamp" in namespace["metadata"]:
                message = (
                    f"{resource.qualified} {quoted(name)} is forbidden: unable to create new"
                    f" content in namespace {target.namespace} because it is being terminated"
                )
                raise refusal(403, "Forbidden", message, resource.details(name))
        definition = self._objects.get(Target(DEFINITIONS, "", resource.qualified).key)
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
        self._get(target)
        return self._update(target, new, writer)

    def _apply(self, target: Target, given: Body, writer: Writer) -> tuple[int, Body]:
        old = self._objects.get(target.key) and self._get(target)
        finalizers, owners = apply_finalizers(
            old["metadata"] if old else {}, given.get("finalizers", []), writer
        )
        if old:
            metadata = {**old["metadata"], **given, "finalizers": finalizers}
            return 200, self._update(target, {**old, "metadata": metadata}, writer, owners)
        if "uid" in given:
            why = f"uid mismatch: the provided object specified uid {given['uid']}, and no existing"
            raise target.conflict(f"{why} object was found")
        check_address(target, given)
        new = {
            "apiVersion": target.resource.api_version,
            "kind": target.resource.kind,
            "metadata": {"name": target.name, "finalizers": finalizers},
        }
        return 201, self._create(target, new, owners)

    def _update(
        self, target: Target, new: Body, writer: Writer, owners: list[Entry] | None = None
    ) -> Body:
        old = self._get(target)
        if owners is None:
            owners = updated_owners(old["metadata"], new["metadata"], writer)
        new = updated(target, old, new, owners)
        stored_again = (
            target.resource.stored(old)["apiVersion"] != (self._objects[target.key]["apiVersion"])
        )
        if new == old and not stored_again:
            return old
        if is_free(target, new):
            self._remove(target)
            return new
        return self._store(target, "MODIFIED", new)

    # Deleting.

    def _delete(self, target: Target, options: Body) -> Body:
        old = self._get(target)
        check_preconditions(target, old["metadata"], options.get("preconditions") or {})
        new = marked(target, old, options)
        if is_free(target, new):
            self._remove(target)
            details = {**target.resource.details(target.name), "uid": old["metadata"]["uid"]}
            answer = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return {**answer, "details": details}
        if new != old:
            new = self._store(target, "MODIFIED", new)
        if target.resource == DEFINITIONS:
            self._delete_all_of(target)
        return new

    def _delete_selected(self, target: Target, request: Request) -> Body:
        """Delete all objects of a collection that are selected; the answer is what they were."""
        options = delete_options(request)
        listed = self._list(target, request)
        for body in listed["items"]:
            one = Target(target.resource, target.namespace, body["metadata"]["name"])
            self._delete(one, options)
        return listed

    def _delete_all_of(self, definition: Target) -> None:
        """A definition takes all its objects with it, and waits for their finalizers."""
        resource = defined(self._get(definition))[0]
        for body in self.select(resource):
            metadata = body["metadata"]
            self._delete(Target(resource, metadata.get("namespace", ""), metadata["name"]), {})
        self._finish(definition, resource)

    def _finish(self, definition: Target, resource: Resource) -> None:
        """A definition that is being deleted goes when nothing of its kind is left."""
        body = self._objects.get(definition.key)
        if not body or self.select(resource):
            return
        metadata = body["metadata"]
        finalizers = metadata.get("finalizers", [])
        if finalizers == [CLEANUP]:
            self._remove(definition)
        elif CLEANUP in finalizers:
            metadata = {**metadata, "finalizers": [f for f in finalizers if f != CLEANUP]}
            self._store(definition, "MODIFIED", {**body, "metadata": metadata})

    def _remove(self, target: Target) -> None:
        # Watchers are told the last state that was stored, with the version of the deletion.
        self._record(target, "DELETED", self._objects[target.key])
        del self._objects[target.key]
        self._finish(Target(DEFINITIONS, "", target.resource.qualified), target.resource)

    # Remembering.

    def _store(self, target: Target, change: str, body: Body) -> Body:
        stored = self._record(target, change, target.resource.stored(body))
        self._objects[target.key] = stored
        return target.resource.view(stored)

    def _record(self, target: Target, change: str, body: Body) -> Body:
        version = len(self.history) + 1
        before = self._objects.get(target.key)
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}
        event = {"type": change, "object": body}
        kind = target.resource.stored_as
        self.history.append(Event(version, kind, target.namespace, event, before))
        if target.resource == DEFINITIONS:
            self._served = []
        return body


def _key_in(target: Target, body: Body) -> str:
    """What the objects of a list are ordered by, and told apart."""
    metadata = body["metadata"]
    if target.namespace or not target.resource.namespaced:
        return str(metadata["name"])
    return f"{metadata['namespace']}/{metadata['name']}"


def _not_allowed(request: Request) -> ApiError:
    message = f"{request.method} is not supported on {request.path}"
    return refusal(405, "MethodNotAllowed", message)
