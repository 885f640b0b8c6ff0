"""Which finalizers an object has, whether it is being deleted, and the one edit of their list.

| the object | `add` | then |
| --- | --- | --- |
| alive | not there | it comes where the first of `remove` was, else at the end; those go |
| alive or being deleted | there already, or none | all of `remove` go |
| being deleted | not there | nothing changes |

In the last row Kubernetes refuses the addition (422, 1.20 to 1.36), and a removal without it would
let the object go before the cleanup that `add` waits for.
"""

from collections.abc import Collection, Mapping
from typing import Any

from ._errors import ConfigurationError


def finalizers_of(body: Mapping[str, Any]) -> list[str]:
    """The finalizers of a body, in their order; of a body without metadata, none."""
    return metadata_of(body).get("finalizers") or []


def is_being_deleted(body: Mapping[str, Any]) -> bool:
    """Whether an object is being deleted: from then on Kubernetes adds no finalizer to it."""
    return bool(metadata_of(body).get("deletionTimestamp"))


def metadata_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of a body; empty where it has none.

    Raises:
        ConfigurationError: It is no mapping, or not in the API's own field names.
    """
    if not isinstance(body, Mapping):
        raise ConfigurationError(
            f"The body must be a mapping, as an API server returns it, not {type(body).__name__}:"
            " of an object of a client library take its raw form (a dict). [not-a-body]"
        )
    metadata: Mapping[str, Any] = body.get("metadata") or {}
    if "deletion_timestamp" in metadata or "resource_version" in metadata:
        # Read as it is, it would look like an object that is alive and has no version.
        raise ConfigurationError(
            "The body has Python's field names (deletion_timestamp, resource_version), not the"
            " API's: with the kubernetes client use ApiClient().sanitize_for_serialization(obj) in"
            " place of obj.to_dict(). [not-a-body]"
        )
    return metadata


def uid_of(body: Mapping[str, Any]) -> str:
    """What an object is known by, whatever comes later under its name."""
    return str(metadata_of(body).get("uid"))


def name_of(body: Mapping[str, Any]) -> str:
    """What an object is called in messages: its namespace, if it has one, and its name."""
    metadata = metadata_of(body)
    return "/".join(filter(None, [metadata.get("namespace"), metadata.get("name")]))


def edited(
    body: Mapping[str, Any], *, add: str | None = None, remove: Collection[str] = ()
) -> list[str]:
    """The list of finalizers as it should be: the table above.

    Everyone else's entries stay, in their order. All duplicates of what is removed go, since an API
    server keeps them.
    """
    before = finalizers_of(body)
    missing = add if add not in before else None
    if missing is not None and is_being_deleted(body):
        return [*before]
    after = list[str]()
    for name in before:
        if name not in remove:
            after.append(name)
        elif missing is not None:
            after.append(missing)
            missing = None
    return after if missing is None else [*after, missing]
