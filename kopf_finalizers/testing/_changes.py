"""What becomes of an object when it is created, updated or deleted: from one body to the next.

Bodies are never changed in place.
"""

import secrets
import uuid
from datetime import UTC, datetime

from ._catalogue import NAMESPACES
from ._definitions import DEFINITIONS, completed, definition_problems
from ._ownership import Entry
from ._refusals import Body, Problem, invalid, metadata_problems, name_problems, refusal
from ._requests import Resource, Target, version_number
from ._schemas import object_problems

# All that metadata may have: the server drops the rest without a word.
_METADATA = {
    *("name", "generateName", "namespace", "uid", "resourceVersion", "generation"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    *("labels", "annotations", "ownerReferences", "finalizers", "managedFields"),
}

# What no request changes in an object that is there.
_SETTLED = ("namespace", "creationTimestamp", "generation", "deletionTimestamp")

# Finalizers of the garbage collector: a deletion sets them as its propagation policy says.
_PROPAGATION = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}

# What holds a definition until all objects of its kind are gone.
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


def now() -> str:
    """The time as the server writes it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def created(target: Target, body: Body, owners: list[Entry]) -> Body:
    """The new object of a collection.

    Raises:
        ApiError: It breaks a rule.
    """
    resource, metadata = target.resource, dict(body["metadata"])
    if metadata.setdefault("namespace", target.namespace) != target.namespace:
        message = "the namespace of the provided object does not match the namespace sent on the"
        raise refusal(400, "BadRequest", f"{message} request")
    if metadata.pop("resourceVersion", "0") != "0":
        message = "resourceVersion should not be set on objects to be created"
        raise refusal(500, None, message)
    if "name" not in metadata:
        if "generateName" not in metadata:
            message = "Required value: name or generateName is required"
            raise target.invalid(Problem("metadata.name", message, "FieldValueRequired"))
        # As long as the real server makes them: 58 characters of the prefix, and five more.
        metadata["name"] = f"{metadata['generateName'][:58]}{secrets.token_hex(3)[:5]}"
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
    for given in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        metadata.pop(given, None)
    metadata = _trimmed({**metadata, "managedFields": owners})
    new = resource.view({**body, "metadata": metadata})
    if resource.status:
        new.pop("status", None)
    problems = [
        *name_problems(metadata, label=resource == NAMESPACES),
        *metadata_problems(metadata, {}),
    ]
    if resource == DEFINITIONS:
        new = completed(new)
        problems.extend(definition_problems(new))
    problems.extend(object_problems(new, resource.schema or {}))
    if problems:
        raise invalid(resource.kind, resource.group, metadata["name"], problems)
    if resource == NAMESPACES:
        new |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    return new


def updated(target: Target, old: Body, new: Body, owners: list[Entry]) -> Body:
    """The next state of an object, with as much of a wanted state as may be changed.

    Raises:
        ApiError: It breaks a rule, or is based on another version.
    """
    resource, before = target.resource, old["metadata"]
    check_address(target, new["metadata"])
    _check_version(target, new["metadata"], before)
    if target.subresource:
        # The way to the status leads to nothing else: not even to metadata.
        new = resource.view({**_without_status(old), **_status(new), "metadata": before})
        problems: list[Problem] = []
    else:
        new = resource.view(new)
        if resource.status:
            new = {**_without_status(new), **_status(old)}
        settled = {k: before[k] for k in _SETTLED if k in before}
        metadata = {"uid": before["uid"], **new["metadata"], **settled, "managedFields": owners}
        if "deletionTimestamp" in before:
            metadata.setdefault("deletionGracePeriodSeconds", 0)
        new = {**new, "metadata": _trimmed(metadata)}
        problems = [*metadata_problems(new["metadata"], before)]
        if resource == DEFINITIONS:
            new = completed(new, old)
    if resource == DEFINITIONS:
        problems.extend(definition_problems(new, old))
    problems.extend(object_problems(new, resource.schema or {}))
    if problems:
        raise target.invalid(*problems)
    if _content(new, resource) != _content(old, resource):
        new = {**new, "metadata": {**new["metadata"], "generation": before["generation"] + 1}}
    return new


def marked(target: Target, old: Body, options: Body) -> Body:
    """An object that is to be deleted, with all that is to be waited for."""
    metadata, finalizers = old["metadata"], old["metadata"].get("finalizers", [])
    if "propagationPolicy" in options:
        policy = _PROPAGATION.get(options["propagationPolicy"])
        finalizers = [f for f in finalizers if f not in _PROPAGATION.values()]
        finalizers += [policy] if policy else []
    if target.resource == DEFINITIONS and CLEANUP not in finalizers:
        finalizers = [*finalizers, CLEANUP]
    metadata = {**metadata, "finalizers": finalizers}
    if "deletionTimestamp" not in metadata:
        metadata |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 0}
        metadata["generation"] += 1
    new = {**old, "metadata": _trimmed(metadata)}
    if target.resource == NAMESPACES:
        new["status"] = {"phase": "Terminating"}
    return new


def is_free(target: Target, body: Body) -> bool:
    """Whether an object is to be deleted and nothing holds it any more.

    A namespace is held until a controller has emptied it: there is none here.
    """
    metadata = body["metadata"]
    wanted = "deletionTimestamp" in metadata and target.resource != NAMESPACES
    return wanted and "finalizers" not in metadata


def check_address(target: Target, metadata: Body) -> None:
    """An object is what its path says."""
    name = metadata.get("name", target.name)
    namespace = metadata.get("namespace", target.namespace)
    if name != target.name:
        message = f"the name of the object ({name}) does not match the name on the URL"
        raise refusal(400, "BadRequest", f"{message} ({target.name})")
    if namespace != target.namespace:
        message = f"the namespace of the object ({namespace}) does not match the namespace on the"
        raise refusal(400, "BadRequest", f"{message} request ({target.namespace})")


def check_preconditions(target: Target, metadata: Body, preconditions: Body) -> None:
    """A deletion may be meant for one version, or one life, of an object only."""
    for field, name, advice in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        wanted, found = preconditions.get(field), metadata[field]
        if wanted not in (None, found):
            why = f"the {name} in the precondition ({wanted}) does not match the {name} in record"
            why = f"{why} ({found}). The object might have been {advice}"
            raise target.conflict(why, target.resource.kind)


def _check_version(target: Target, metadata: Body, before: Body) -> None:
    if "resourceVersion" not in metadata:
        message = "Invalid value: 0x0: must be specified for an update"
        problem = Problem("metadata.resourceVersion", message)
        raise invalid(target.resource.plural, target.resource.group, target.name, [problem])
    if version_number(metadata["resourceVersion"]) != int(before["resourceVersion"]):
        why = "the object has been modified; please apply your changes to the latest version and"
        raise target.conflict(f"{why} try again")


def _content(body: Body, resource: Resource) -> Body:
    """What the generation counts the changes of."""
    content = _without_status(body) if resource.status else body
    return {k: v for k, v in content.items() if k != "metadata"}


def _without_status(body: Body) -> Body:
    return {k: v for k, v in body.items() if k != "status"}


def _status(body: Body) -> Body:
    return {"status": body["status"]} if "status" in body else {}


def _trimmed(metadata: Body) -> Body:
    """What is kept of metadata: nothing empty, nothing unknown."""
    return {k: v for k, v in metadata.items() if k in _METADATA and v not in ([], {}, "")}
