"""Own-finalizer changes: one entry of the list is added or removed, and nothing else is touched.

One rule holds everywhere: read the list, change one's own entry, leave the order and everyone
else's entries alone. All duplicates of one's own go, since an API server keeps them. Nothing is
added to an object being deleted, since an API server refuses that (422, Kubernetes 1.20 to 1.36).
Where there is nothing to do, nothing is sent.

Inside Kopf such a change is a function on `patch.fns` (Kopf 1.44 to 1.45), which Kopf calls with
the freshest body and calls again after a conflict. For any other client it is plain data.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from .errors import ConfigurationError
from .names import check_finalizer

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


def has_finalizer(body: Mapping[str, Any], name: str) -> bool:
    """Whether a finalizer is on an object.

    Args:
        body: A `kopf.Body`, or an object as an API server returns it; it may lack metadata.
        name: The whole finalizer.

    Raises:
        ConfigurationError: The name is not one that an API server takes, or the body is not a
            mapping with the API's own field names.

    Example:
        >>> has_finalizer(
        ...     {"metadata": {"finalizers": ["mycompany.com/db-operator"]}},
        ...     "mycompany.com/db-operator",
        ... )
        True
    """
    return check_finalizer(name) in finalizers_of(body)


def add_finalizer(patch: kopf.Patch, name: str) -> None:
    """Put a finalizer on an object through the patch that Kopf gives to a handler.

    Kopf sends it with whatever else the handler patches, on the freshest body that it has, and
    again after a conflict. It does nothing where the finalizer is already on the object, or where
    the object is being deleted: Kubernetes adds none then.

    It is assumed that the finalizer is the caller's own. Kopf's own finalizer needs no such call,
    and Kopf takes it off again where no handler of the operator needs it.

    Raises:
        ConfigurationError: The name is not one that an API server takes, or the handler has also
            written `patch.metadata["finalizers"]`, which replaces everybody's. If it writes that
            later, the error comes when Kopf applies the patch.

    Example:
        >>> @kopf.on.event("mygroup", "v1", "myresources")
        ... def guard(patch, **_):
        ...     add_finalizer(patch, "mycompany.com/db-operator.backups")
    """
    _append(patch, AddFinalizer(check_finalizer(name), patch))


def remove_finalizer(patch: kopf.Patch, name: str) -> None:
    """Take a finalizer off an object through the patch that Kopf gives to a handler.

    All its duplicates go, nobody else's entry does, and it does nothing where there is none.
    Kopf sends it as it sends `add_finalizer`.

    Raises:
        ConfigurationError: As for `add_finalizer`.

    Example:
        >>> @kopf.on.event("mygroup", "v1", "myresources")
        ... def release(body, patch, **_):
        ...     if body.get("status", {}).get("backups") == "gone":
        ...         remove_finalizer(patch, "mycompany.com/db-operator.backups")
    """
    _append(patch, RemoveFinalizer(check_finalizer(name), patch))


def replace_finalizer(patch: kopf.Patch, name: str, *, former: Iterable[str]) -> None:
    """Put a finalizer in the place of its former names, as `add_finalizer` adds one."""
    _append(patch, ReplaceFinalizer(name, patch, former=frozenset(former)))


def json_patch(
    body: Mapping[str, Any], *, add: str | None = None, remove: str | None = None
) -> list[dict[str, Any]]:
    """A change of one finalizer as a JSON Patch (RFC 6902), for any client.

    The operations fail when they must, and only then: they `test` that it is still the same object
    (its `uid`), that an entry to be removed still stands where it was read, and that a list to be
    created is still not there. They do not test the whole object's version, so that somebody who
    writes a status does not make them fail. An addition to a list that is there already does not
    test the list: it cannot harm anyone else's entry, and the worst that can come of it is one's
    own entry twice, which `remove` takes off whole.

    When the patch fails with 422, read the object again and make a new one: `ensure_finalizer` and
    `release_finalizer` do that.

    Args:
        body: The object as it was read; not changed.
        add: The finalizer to add. Not added to an object being deleted.
        remove: The finalizer to remove, with all its duplicates. Both together replace one by the
            other, in its place.

    Returns:
        The operations, of the content type `application/json-patch+json`. Empty when there is
        nothing to do.

    Raises:
        ConfigurationError: There is neither of the two, both are the same, a name is not one that
            an API server takes, or the body is not one.

    Example:
        >>> body = {"metadata": {"uid": "1-2", "finalizers": ["other.org/f"]}}
        >>> json_patch(body, add="mycompany.com/db-operator")  # doctest: +NORMALIZE_WHITESPACE
        [{'op': 'test', 'path': '/metadata/uid', 'value': '1-2'},
         {'op': 'add', 'path': '/metadata/finalizers/-', 'value': 'mycompany.com/db-operator'}]
    """
    before = list(finalizers_of(body))
    after = _changed(body, add=add, remove=remove)
    if after == before:
        return []
    operations: list[dict[str, Any]] = []
    if uid := _metadata(body).get("uid"):
        operations.append({"op": "test", "path": "/metadata/uid", "value": uid})
    if not before:
        # An API server keeps no empty list, so there is none.
        operations.append({"op": "test", "path": "/metadata/finalizers", "value": None})
        operations.append({"op": "add", "path": "/metadata/finalizers", "value": after})
        return operations
    own = [index for index, name in enumerate(before) if name == remove]
    replaced = own.pop(0) if own and add in after and add not in before else None
    # From the end, so that what is removed moves nothing that is still to be removed.
    for index in reversed(own):
        operations.append(_test(index, remove))
        operations.append({"op": "remove", "path": f"/metadata/finalizers/{index}"})
    if replaced is not None:
        operations.append(_test(replaced, remove))
        path = f"/metadata/finalizers/{replaced}"
        operations.append({"op": "replace", "path": path, "value": add})
    elif add in after and add not in before:
        operations.append({"op": "add", "path": "/metadata/finalizers/-", "value": add})
    return operations


def merge_patch(
    body: Mapping[str, Any], *, add: str | None = None, remove: str | None = None
) -> dict[str, Any]:
    """A change of one finalizer as a merge patch (RFC 7386), for clients that have no JSON Patch.

    A merge patch replaces the whole list, everybody's entries. So this one is locked: it carries
    the `resourceVersion` and the `uid` that were read, and an API server refuses it (409, or 422
    for the `uid`) as soon as anybody has written anything since. Where several controllers write
    the object, prefer `json_patch`.

    Args:
        body: The object as it was read; not changed.
        add: The finalizer to add. Not added to an object being deleted.
        remove: The finalizer to remove, with all its duplicates.

    Returns:
        The patch, of the content type `application/merge-patch+json`. Empty when there is nothing
        to do.

    Raises:
        ConfigurationError: As for `json_patch`; also when the body has no `resourceVersion` or no
            `uid`: without them the patch would wipe what others have written.

    Example:
        >>> body = {"metadata": {"uid": "1-2", "resourceVersion": "3"}}
        >>> merge_patch(body, add="mycompany.com/db-operator")  # doctest: +NORMALIZE_WHITESPACE
        {'metadata': {'uid': '1-2', 'resourceVersion': '3',
                      'finalizers': ['mycompany.com/db-operator']}}
    """
    after = _changed(body, add=add, remove=remove)
    if after == list(finalizers_of(body)):
        return {}
    metadata = _metadata(body)
    lock = {key: metadata[key] for key in ("uid", "resourceVersion") if metadata.get(key)}
    if len(lock) < 2:
        raise ConfigurationError(
            "The body has no resourceVersion or no uid, so a merge patch could wipe the finalizers"
            " that others have added since: read the object from the API server first, or use"
            " json_patch(), which changes one entry only."
        )
    return {"metadata": {**lock, "finalizers": after}}


@dataclass(frozen=True, repr=False)
class Change(ABC):
    """A function for `patch.fns`: safe to call again, on any body, as often as Kopf likes."""

    name: str
    patch: kopf.Patch | None = field(default=None, compare=False)

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        if self.patch is not None:
            refuse_whole_list(self.patch)
        raw = cast("dict[str, Any]", body)
        if self.has_effect(raw):
            finalizers = self.applied(finalizers_of(raw))
            raw["metadata"] = {**(raw.get("metadata") or {}), "finalizers": finalizers}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def has_effect(self, body: Mapping[str, Any]) -> bool:
        """Whether there is anything to do on that body."""

    @abstractmethod
    def applied(self, finalizers: list[str]) -> list[str]:
        """The list as it should be."""


class AddFinalizer(Change):
    """Adds one finalizer to a body in place, unless it is there or the body is being deleted."""

    def has_effect(self, body: Mapping[str, Any]) -> bool:
        """Whether the body lacks the finalizer and may still get it."""
        return self.name not in finalizers_of(body) and not is_being_deleted(body)

    def applied(self, finalizers: list[str]) -> list[str]:
        """The list with the finalizer at its end."""
        return [*finalizers, self.name]


class RemoveFinalizer(Change):
    """Removes one finalizer from a body in place, with all its duplicates."""

    def has_effect(self, body: Mapping[str, Any]) -> bool:
        """Whether the body has the finalizer."""
        return self.name in finalizers_of(body)

    def applied(self, finalizers: list[str]) -> list[str]:
        """The list without the finalizer."""
        return [name for name in finalizers if name != self.name]


@dataclass(frozen=True, repr=False)
class ReplaceFinalizer(Change):
    """Puts a finalizer in the place of others, unless the body is being deleted."""

    former: frozenset[str] = frozenset()

    def has_effect(self, body: Mapping[str, Any]) -> bool:
        """Whether the body has any of the others, and may still get the new one."""
        return not self.former.isdisjoint(finalizers_of(body)) and not is_being_deleted(body)

    def applied(self, finalizers: list[str]) -> list[str]:
        """The list with the finalizer where the first of the others was, and without those."""
        there = self.name in finalizers
        replaced = list[str]()
        for name in finalizers:
            if name not in self.former:
                replaced.append(name)
            elif not there:
                replaced.append(self.name)
                there = True
        return replaced


class MergeIntoBody:
    """Puts into Kopf's JSON Patch what would have been a merge patch of its own."""

    def __init__(self) -> None:
        self.patch = kopf.Patch()

    def __call__(self, body: kopf.RawBody) -> None:
        """Change a body in place, as Kopf asks of a function on `patch.fns`."""
        _merge(cast("dict[str, Any]", body), self.patch)
        for fn in self.patch.fns:
            fn(body)

    def __repr__(self) -> str:
        return f"MergeIntoBody({dict(self.patch)})"


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """A merge patch (RFC 7386) applied in place."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], value)
        else:
            target[key] = value


def refuse_whole_list(patch: kopf.Patch) -> None:
    """Refuse a patch that replaces the whole list of finalizers, everybody's.

    Raises:
        ConfigurationError: A handler has written `patch.metadata["finalizers"]`.
    """
    if "finalizers" in (patch.get("metadata") or {}):
        raise ConfigurationError(
            'A handler has written patch.metadata["finalizers"], which replaces the whole list and'
            " takes everybody else's finalizers off. Remove that line and change one entry: with"
            " finalizers.add(patch) or finalizers.remove(patch), or with"
            " kopf_finalizers.add_finalizer(patch, name) or remove_finalizer(patch, name)."
        )


def finalizers_of(body: Mapping[str, Any]) -> list[str]:
    """The finalizers of a body, in their order; of a body without metadata, none."""
    return _metadata(body).get("finalizers") or []


def is_being_deleted(body: Mapping[str, Any]) -> bool:
    """Whether an object is being deleted: from then on Kubernetes adds no finalizer to it."""
    return bool(_metadata(body).get("deletionTimestamp"))


def _metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise ConfigurationError(
            f"The body must be a mapping, as an API server returns it, not {type(body).__name__}:"
            " of an object of a client library take its raw form (a dict)."
        )
    metadata: Mapping[str, Any] = body.get("metadata") or {}
    if "deletion_timestamp" in metadata or "resource_version" in metadata:
        # Read as it is, it would look like an object that is alive and has no version.
        raise ConfigurationError(
            "The body has Python's field names (deletion_timestamp, resource_version), not the"
            " API's: with the kubernetes client use ApiClient().sanitize_for_serialization(obj) in"
            " place of obj.to_dict()."
        )
    return metadata


def _changed(body: Mapping[str, Any], *, add: str | None, remove: str | None) -> list[str]:
    """The list as it should be. What is added takes the place of what is removed, if any."""
    if add is None and remove is None:
        raise ConfigurationError("Nothing to change: give add=, or remove=, or both to replace.")
    for name in (add, remove):
        if name is not None:
            check_finalizer(name)
    if add == remove:
        raise ConfigurationError(f'The finalizer "{add}" cannot be both added and removed.')
    before = finalizers_of(body)
    missing = add is not None and add not in before and not is_being_deleted(body)
    after = list[str]()
    for name in before:
        if name != remove:
            after.append(name)
        elif missing and add is not None:
            after.append(add)
            missing = False
    return [*after, add] if missing and add is not None else after


def _test(index: int, name: str | None) -> dict[str, Any]:
    return {"op": "test", "path": f"/metadata/finalizers/{index}", "value": name}


def _append(patch: kopf.Patch, change: Change) -> None:
    """Put a change on `patch.fns`, unless it would change nothing.

    To leave it out matters: Kopf (1.44 to 1.45) takes a patch with any function for one that will
    be sent, and does not wake up for handlers that wait for their retry. One that then sends
    nothing would leave them waiting until somebody else changes the object.
    """
    refuse_whole_list(patch)
    pending = [fn for fn in patch.fns if isinstance(fn, Change) and fn.name == change.name]
    if pending:
        if pending[-1] != change:
            patch.fns.append(change)
        return
    body = body_of(patch)
    if body is None or change.has_effect(body):
        patch.fns.append(change)


def body_of(patch: kopf.Patch) -> Mapping[str, Any] | None:
    """The body that Kopf made a patch for; None for a patch that a test made.

    One of the three places where this library reads what Kopf does not publish: a handler's patch
    knows its body, and there is no public way to ask for it. A test fails when Kopf renames it.
    """
    body: Mapping[str, Any] | None = getattr(patch, "_original", None)
    return body


def has_effect(patch: kopf.Patch, body: kopf.Body) -> bool:
    """Whether the functions of a patch would change anything, so that Kopf would send it."""
    raw = cast("kopf.RawBody", dict(body))  # Kopf 1.44 wants a plain dict
    return bool(kopf.Patch(fns=patch.fns).as_json_patch(raw))


def wake_up(settings: kopf.OperatorSettings, body: kopf.Body, patch: kopf.Patch) -> None:
    """Make Kopf come back to an object, in a cycle that would send nothing.

    Kopf (1.44 to 1.45) calls no state-dependent handler in a cycle that begins with functions left
    over from a conflict. When these turn out to change nothing, nothing is sent, so no event
    follows, and the handlers would not be called until somebody else changes the object.
    """
    value = datetime.now(UTC).isoformat()
    settings.persistence.progress_storage.touch(body=body, patch=patch, value=value)
