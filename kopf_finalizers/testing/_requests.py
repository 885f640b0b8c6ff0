"""What clients send, as it is read: targets, new objects, patches, options of a deletion."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonpatch

from ._refusals import ApiError, Body, Problem, invalid, quoted, refusal, wrong_type
from ._schemas import Schema, shaped

# What can be done with a resource, unless it says otherwise.
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Resource:
    """A version of a kind of objects; all versions of a kind have the same objects."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = True
    built_in: bool = False
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    served: bool = True
    terminating: bool = False
    same_as: str = ""
    storage: str = ""
    versions: frozenset[str] = frozenset()
    verbs: tuple[str, ...] = VERBS
    schema: Schema | None = field(default=None, compare=False, repr=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored_as(self) -> str:
        """Where its objects are: a kind may be served in two groups, with the same objects."""
        return self.same_as or self.qualified

    def view(self, body: Body) -> Body:
        """An object as this version shows it, whatever version it was stored in.

        Raises:
            ApiError: That version is not known any more.
        """
        if self.versions and body["apiVersion"] not in self.versions:
            message = "request to convert CR from an invalid group/version:"
            raise refusal(500, None, f"{message} {body['apiVersion']}")
        body = {**body, "apiVersion": self.api_version}
        return body if self.schema is None else shaped(body, self.schema)

    def stored(self, body: Body) -> Body:
        """An object as it is stored, whatever version it came in."""
        return {**body, "apiVersion": self.storage or self.api_version}

    def details(self, name: str = "", kind: str = "") -> Body:
        """How an error names an object of this kind."""
        named = {"name": name, "group": self.group, "kind": kind or self.plural}
        return {key: value for key, value in named.items() if value}


@dataclass(frozen=True)
class Target:
    """What a path leads to: a collection, an object, or a part of one."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.resource.stored_as, self.namespace, self.name

    def not_found(self) -> ApiError:
        message = f"{self.resource.qualified} {quoted(self.name)} not found"
        return refusal(404, "NotFound", message, self.resource.details(self.name))

    def conflict(self, why: str, kind: str = "") -> ApiError:
        details = self.resource.details(self.name, kind)
        what = f"{kind}.{self.resource.group}" if kind else self.resource.qualified
        message = f"Operation cannot be fulfilled on {what} {quoted(self.name)}: {why}"
        return refusal(409, "Conflict", message, details)

    def invalid(self, *problems: Problem) -> ApiError:
        return invalid(self.resource.kind, self.resource.group, self.name, problems)


@dataclass(frozen=True)
class Request:
    """What a client asks for; the body is as it came."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = JSON
    query: Mapping[str, str] = field(default_factory=dict)
    user_agent: str = "unknown"
    accept: str = ""

    @property
    def media_type(self) -> str:
        return self.content_type.partition(";")[0].strip()

    @property
    def manager(self) -> str:
        """In whose name the fields are changed."""
        return self.query.get("fieldManager") or self.user_agent.partition("/")[0]

    @property
    def is_watch(self) -> bool:
        wanted = self.query.get("watch", "false").lower() not in ("false", "0")
        return wanted and self.method == "GET"


def new_object(request: Request, target: Target) -> Body:
    """Read the object of a POST or a PUT."""
    resource = target.resource
    if request.media_type not in ("", JSON):
        raise _unknown_format(JSON)
    body = _decoded(request.body, "the object provided is unrecognized")
    if not isinstance(body, dict):
        raise refusal(400, "BadRequest", "the object provided is unrecognized: not an object")
    if resource.built_in:
        # The real server knows these kinds without being told.
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
    for name in ("apiVersion", "kind"):
        if not body.get(name):
            message = f"cannot be handled as a {resource.kind}: Object '{name}' is missing"
            raise refusal(400, "BadRequest", message)
    if body["apiVersion"] != resource.api_version:
        message = (
            f"the API version in the data ({body['apiVersion']}) does not match the expected API"
            f" version ({resource.api_version})"
        )
        raise refusal(400, "BadRequest", message)
    problem = _normalise(body)
    if problem:
        message = f"{resource.kind} in version {quoted(resource.version)} cannot be handled as a"
        raise refusal(400, "BadRequest", f"{message} {resource.kind}: {problem}")
    _check_kind(body, target, body["metadata"].get("name", ""))
    return body


def patch_type(request: Request) -> str:
    """Which kind of patch it is; others than these are refused."""
    accepted = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
    if request.media_type not in accepted:
        raise _unknown_format(*accepted)
    if request.media_type != APPLY_PATCH and "force" in request.query:
        message = "Forbidden: may not be specified for non-apply patch"
        problem = Problem("force", message, "FieldValueForbidden")
        raise invalid("PatchOptions", "meta.k8s.io", "", [problem])
    return request.media_type


def patched(old: Body, request: Request, target: Target) -> Body:
    """Apply a JSON Patch or a merge patch."""
    if request.media_type == JSON_PATCH:
        new = _json_patched(old, request.body)
    else:
        new = _merged(old, _merge_patch(request.body))
    problem = _normalise(new) if isinstance(new, dict) else "not an object"
    if not problem and not new.get("kind"):
        problem = "Object 'Kind' is missing"
    if problem:
        raise invalid("", "", "", [Problem("patch", f"Invalid value: {problem}")])
    if not new["metadata"].get("name"):
        raise nameless(target)
    _check_kind(new, target, target.name)
    expected = target.resource.api_version
    if new.get("apiVersion") != expected:
        message = f"Invalid value: {quoted(str(new.get('apiVersion')))}: must be {expected}"
        raise target.invalid(Problem("apiVersion", message))
    return new


def applied(request: Request, target: Target) -> Body:
    """Read the metadata of a server-side apply, which may be about finalizers only."""
    resource = target.resource
    manager = request.query.get("fieldManager", "")
    problem = None
    if not manager:
        message = "Required value: is required for apply patch"
        problem = Problem("fieldManager", message, "FieldValueRequired")
    elif len(manager.encode()) > 128:
        message = "Too long: must have at most 128 bytes"
        problem = Problem("fieldManager", message, "FieldValueTooLong")
    if problem:
        raise invalid("PatchOptions", "meta.k8s.io", "", [problem])
    body = _decoded(request.body, "error decoding YAML (here it must be JSON)")
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise refusal(400, "BadRequest", "error decoding YAML: not an object")
    if body.get("apiVersion") != resource.api_version:
        message = (
            "Incorrect version specified in apply patch. Specified patch version:"
            f" {body.get('apiVersion', '')}, expected: {resource.api_version}"
        )
        raise refusal(400, "BadRequest", message)
    if body.get("kind") != resource.kind:
        message = "failed to create typed patch object: no corresponding type for"
        message = f"{message} {resource.api_version}, Kind={body.get('kind', '')}"
        raise refusal(500, None, message)
    metadata: Body = body.get("metadata", {})
    if "managedFields" in metadata:
        raise refusal(400, "BadRequest", "metadata.managedFields must be nil")
    rest = body.keys() - {"apiVersion", "kind", "metadata"}
    rest |= metadata.keys() - {"name", "namespace", "uid", "resourceVersion", "finalizers"}
    if rest or target.subresource:
        message = "this API server for tests applies nothing but metadata.finalizers"
        raise refusal(400, "BadRequest", f"{message}, not {sorted(rest) or 'a status'}")
    problem_of_type = wrong_type(metadata)
    if problem_of_type:
        message = f"failed to create typed patch object: {problem_of_type}"
        raise refusal(500, None, message)
    return _present(metadata)


def delete_options(request: Request) -> Body:
    """Read how to delete: the body and the query say the same in two ways."""
    options: Any = {}
    if request.body:
        if request.media_type not in ("", JSON):
            raise _unknown_format(JSON)
        options = _decoded(request.body, "couldn't get version/kind")
    if not isinstance(options, dict) or options.get("kind", "DeleteOptions") != "DeleteOptions":
        raise refusal(400, "BadRequest", "the options of a deletion are of the kind DeleteOptions")
    policy = request.query.get("propagationPolicy")
    return {**options, **({"propagationPolicy": policy} if policy else {})}


def check_verbs(request: Request, target: Target) -> None:
    """Refuse what cannot be done with a resource at all.

    Raises:
        ApiError: Its objects cannot be asked for; or they can be made, but not here.
    """
    if "list" in target.resource.verbs:
        return
    if request.method == "POST":
        message = f"this API server for tests makes no {target.resource.kind}"
        raise refusal(400, "BadRequest", message)
    message = "the server does not allow this method on the requested resource"
    raise refusal(405, "MethodNotAllowed", message)


def version_number(version: str) -> int:
    """Read a resource version, the only thing a client may do with it being to send it back."""
    if not version.isdecimal():
        message = f"resourceVersion: Invalid value: {quoted(version)}: invalid syntax"
        raise refusal(500, None, message)
    return int(version)


def nameless(target: Target) -> ApiError:
    message = f"the name of the object ({target.name} based on URL) was undeterminable"
    return refusal(400, "BadRequest", f"{message}: name must be provided")


def _decoded(raw: bytes, what: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise refusal(400, "BadRequest", f"{what}: {error}") from None


def _unknown_format(*accepted: str) -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: "
    return refusal(415, "UnsupportedMediaType", message + ", ".join(accepted))


def _normalise(body: Body) -> str | None:
    """Make metadata what the server keeps of it; or say why it cannot be read."""
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        return "metadata: an object is expected"
    problem = wrong_type(metadata)
    body["metadata"] = _present(metadata)
    return problem


def _present(metadata: Body) -> Body:
    """Nothing and empty are the same in metadata."""
    return {k: v for k, v in metadata.items() if v not in (None, [], {}, "")}


def _check_kind(body: Body, target: Target, name: str) -> None:
    kind, expected = body["kind"], target.resource.kind
    if kind != expected:
        message = f"Invalid value: {quoted(str(kind))}: must be {expected}"
        raise invalid(kind, target.resource.group, name, [Problem("kind", message)])


def _merge_patch(raw: bytes) -> Any:
    try:
        patch = json.loads(raw)
    except ValueError:
        patch = None
    if not isinstance(patch, dict | list):
        # The real server's own words, and its own status.
        raise refusal(500, None, "Invalid JSON Patch")
    return patch


def _merged(old: Any, patch: Any) -> Any:
    """Apply a merge patch by RFC 7386; nulls in lists are dropped too, as on the real server."""
    if isinstance(patch, list):
        return [_merged(None, item) for item in patch if item is not None]
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _json_patched(old: Body, raw: bytes) -> Body:
    """Apply a JSON Patch by RFC 6902, with the server's own idea of a test."""
    operations = _decoded(raw, "json")
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        message = "json: cannot unmarshal: a JSON Patch is a list of operations"
        raise refusal(400, "BadRequest", message)
    new = copy.deepcopy(old)
    try:
        for operation in operations:
            if not operation.get("path"):
                raise jsonpatch.InvalidJsonPatch("the whole object")
            if operation.get("op") == "test":
                _test(new, operation)
            else:
                new = jsonpatch.apply_patch(new, [operation], in_place=True)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException):
        # The real server does not tell what is wrong either.
        message = "the server rejected our request due to an error in our request"
        raise refusal(422, "Invalid", message) from None
    return new


def _test(body: Body, operation: Mapping[str, Any]) -> None:
    """Compare as the server does.

    A test for null passes where there is nothing; and 1 is neither 1.0 nor true, unlike in Python.
    """
    pointer = jsonpatch.JsonPointer(operation["path"])
    parent, key = pointer.to_last(body)
    assert key is not None  # noqa: S101 - the path is not empty
    absent = isinstance(parent, dict) and key not in parent
    found = None if absent else pointer.walk(parent, key)
    if "value" not in operation or _canonical(found) != _canonical(operation["value"]):
        raise jsonpatch.JsonPatchTestFailed("not equal")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
