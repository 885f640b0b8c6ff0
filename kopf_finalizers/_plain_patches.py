"""Own-finalizer changes as plain data, for any client: it needs no Kopf.

One rule holds here and in `_patches`, which does the same inside Kopf: read the list, change one's
own entry, leave the order and everyone else's entries alone. All duplicates of one's own go, since
an API server keeps them. Nothing is added to an object being deleted, since an API server refuses
that (422, Kubernetes 1.20 to 1.36). Where there is nothing to do, nothing is sent.
"""

from collections.abc import Mapping
from typing import Any, overload

from ._bodies import edited, finalizers_of, metadata_of
from ._errors import ConfigurationError
from ._names import check_finalizer


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


@overload
def json_patch(
    body: Mapping[str, Any], *, add: str, remove: str | None = None
) -> list[dict[str, Any]]: ...
@overload
def json_patch(
    body: Mapping[str, Any], *, add: str | None = None, remove: str
) -> list[dict[str, Any]]: ...
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
            other, in its place; on an object being deleted that does not have the one to add they
            change nothing, since without it the object could go before its cleanup.

    Returns:
        The operations, of the content type `application/json-patch+json`. Empty when there is
        nothing to do.

    Raises:
        ConfigurationError: There is neither of the two, both are the same, a name is not one that
            an API server takes, or the body is not one.

    Example:
        >>> body = {"metadata": {"uid": "1-2", "finalizers": ["other.org/f"]}}
        >>> json_patch(
        ...     body, add="mycompany.com/db-operator"
        ... )  # doctest: +NORMALIZE_WHITESPACE
        [{'op': 'test', 'path': '/metadata/uid', 'value': '1-2'},
         {'op': 'add', 'path': '/metadata/finalizers/-', 'value': 'mycompany.com/db-operator'}]
    """
    before = finalizers_of(body)
    after = _changed(body, add=add, remove=remove)
    if after == before:
        return []
    operations: list[dict[str, Any]] = []
    if uid := metadata_of(body).get("uid"):
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


@overload
def merge_patch(
    body: Mapping[str, Any], *, add: str, remove: str | None = None
) -> dict[str, Any]: ...
@overload
def merge_patch(
    body: Mapping[str, Any], *, add: str | None = None, remove: str
) -> dict[str, Any]: ...
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
        remove: The finalizer to remove, with all its duplicates. Both together as in `json_patch`.

    Returns:
        The patch, of the content type `application/merge-patch+json`. Empty when there is nothing
        to do.

    Raises:
        ConfigurationError: As for `json_patch`; also when the body has no `resourceVersion` or no
            `uid`: without them the patch would wipe what others have written.

    Example:
        >>> body = {"metadata": {"uid": "1-2", "resourceVersion": "3"}}
        >>> merge_patch(
        ...     body, add="mycompany.com/db-operator"
        ... )  # doctest: +NORMALIZE_WHITESPACE
        {'metadata': {'uid': '1-2', 'resourceVersion': '3',
                      'finalizers': ['mycompany.com/db-operator']}}
    """
    after = _changed(body, add=add, remove=remove)
    if after == finalizers_of(body):
        return {}
    metadata = metadata_of(body)
    lock = {key: metadata[key] for key in ("uid", "resourceVersion") if metadata.get(key)}
    if len(lock) < 2:
        raise ConfigurationError(
            "The body has no resourceVersion or no uid, so a merge patch could wipe the finalizers"
            " that others have added since: read the object from the API server first, or use"
            " json_patch(), which changes one entry only. [no-version]"
        )
    return {"metadata": {**lock, "finalizers": after}}


def _test(index: int, name: str | None) -> dict[str, Any]:
    return {"op": "test", "path": f"/metadata/finalizers/{index}", "value": name}


def _changed(body: Mapping[str, Any], *, add: str | None, remove: str | None) -> list[str]:
    """The list as it should be, of arguments that are checked."""
    if add is None and remove is None:
        raise ConfigurationError(
            "Nothing to change: give add=, or remove=, or both to replace. [patch-arguments]"
        )
    for name in (add, remove):
        if name is not None:
            check_finalizer(name)
    if add == remove:
        raise ConfigurationError(
            f'The finalizer "{add}" cannot be both added and removed. [patch-arguments]'
        )
    return edited(body, add=add, remove=() if remove is None else {remove})
