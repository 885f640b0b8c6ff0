"""One finalizer brought on or off an object through any client, whatever else writes the object.

A client is one or two functions of the caller's, so any will do. There are two ways:

* A JSON Patch (RFC 6902), made from the object as it was just read. Its `test`s fail when somebody
  else was faster in a way that matters (`json_patch` says which). That is a *lost race*: the object
  is read again and the patch made anew, after a pause that is random and grows.
* A server-side apply, in which the server itself merges one entry into the list. It neither reads
  nor races: one request per change, however many write. Every finalizer has a field manager of its
  own, since an apply takes off whatever its manager applied before and does not apply again.

What a server answers was seen on kube-apiserver 1.20.2 and apiextensions-apiserver 1.36.4: a failed
`test` is a 422 without a cause, but so is a patch that can never succeed. What tells them apart is
the object's `resourceVersion`: if it is the same as before, nobody was faster. That the list is the
same proves nothing, since under contention it goes and comes back.
"""

import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, overload

from .._bodies import finalizers_of
from .._errors import ConfigurationError
from .._names import check_finalizer
from .calls import run, status_of
from .rounds import Change, FinalizerOutcome, metadata_of

__all__ = ["FinalizerOutcome", "apply_configuration", "ensure_finalizer", "release_finalizer"]

_Body = Mapping[str, Any]


_Read = Callable[[], _Body | None]
_Patch = Callable[[list[dict[str, Any]]], object]
_Apply = Callable[[dict[str, Any], str], _Body]
_AsyncRead = Callable[[], Awaitable[_Body | None] | _Body | None]
_AsyncPatch = Callable[[list[dict[str, Any]]], Awaitable[object]]
_AsyncApply = Callable[[dict[str, Any], str], Awaitable[_Body]]
_Status = Callable[[Exception], int | None]
_Later = Coroutine[Any, Any, FinalizerOutcome]

# The asynchronous overloads come first: a plain patch may return anything, an awaitable too.


@overload
def ensure_finalizer(  # type: ignore[overload-overlap]
    name: str,
    *,
    read: _AsyncRead,
    patch: _AsyncPatch,
    body: _Body | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> _Later: ...
@overload
def ensure_finalizer(
    name: str,
    *,
    body: _Body,
    apply: _AsyncApply,
    read: _AsyncRead | None = None,
    patch: _AsyncPatch | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> _Later: ...
@overload
def ensure_finalizer(
    name: str,
    *,
    read: _Read,
    patch: _Patch,
    body: _Body | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> FinalizerOutcome: ...
@overload
def ensure_finalizer(
    name: str,
    *,
    body: _Body,
    apply: _Apply,
    read: _Read | None = None,
    patch: _Patch | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> FinalizerOutcome: ...
def ensure_finalizer(
    name: str,
    *,
    read: Callable[[], Any] | None = None,
    patch: Callable[[list[dict[str, Any]]], Any] | None = None,
    apply: Callable[[dict[str, Any], str], Any] | None = None,
    body: _Body | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: Callable[[Exception], int | None] | None = None,
) -> FinalizerOutcome | _Later:
    """Bring a finalizer onto an object, through any client.

    When it returns `added` or `already there`, the object cannot go until the finalizer is taken
    off. Nobody else's entry is touched, whatever happens, and nothing is sent where nothing is to
    do. It may be called again at any time: after a lost answer, say, or by two processes at once.

    Give `read` and `patch`, or `apply` and `body`. With all four, `apply` goes first, and what it
    cannot do is done by the others. With plain functions the call returns the outcome; with
    asynchronous ones (the first to be called returns an awaitable, or any is an `async def`) it is
    to be awaited, in asyncio.

    Args:
        name: The whole finalizer, which is assumed to be the caller's own.
        read: Returns the object as the API server has it (not as a cache has it), in its raw form,
            or None, or raises a 404, when it is not there.
        patch: Sends a list of operations as `application/json-patch+json`.
        apply: Sends a manifest as `application/apply-patch+yaml` (JSON is YAML) in the name of a
            field manager, with `force=true`, and returns the object as it came back.
        body: The object that is meant, as it once was, or a reference to it (as of
            `kopf.build_object_reference`). If its `uid` is no longer that of the object, the
            outcome is `gone`. Without it, the object is the one that is read first.
        attempts: How often to try, if other writers are faster. Then the last error is raised.
        backoff: Up to how many seconds to wait before the second attempt; four times that before
            the third, and so on, up to forty times that.
        status: Finds the HTTP status in an exception, or None. Not needed for kubernetes,
            kubernetes_asyncio, kr8s, lightkube, pykube-ng, aiohttp, httpx and requests.

    Returns:
        `added`, `already there`, `being deleted` or `gone`. After an `apply` it is `added` even
        though the finalizer was there before, unless the `body` was still the latest version.

    Raises:
        ConfigurationError: The callables do not fit each other; they return a refusal in place of
            raising it; an `apply` has not brought the finalizer on, and there is no `read` and
            `patch`; any argument is not what it has to be.
        Exception: The client's own, with a note of what was being done. At once if the server
            refuses (400, 403, a 422 that is no lost race), and for all that is no answer (a broken
            connection, a 500): whether the server has done it is unknown then; call again.

    Example:
        >>> from kopf_finalizers.testing import ApiServer
        >>> path, json_patch = "/api/v1/namespaces/default", "application/json-patch+json"
        >>> with ApiServer() as server:
        ...     ensure_finalizer(
        ...         "mycompany.com/db-operator",
        ...         read=lambda: server.call("GET", path),
        ...         patch=lambda o: server.call("PATCH", path, o, content_type=json_patch),
        ...     )
        <FinalizerOutcome.ADDED: 'added'>
    """
    find = status_of if status is None else status
    change = Change(check_finalizer(name), body, attempts, backoff, find, adding=True)
    return _begun(change, read, patch, apply)


@overload
def release_finalizer(  # type: ignore[overload-overlap]
    name: str,
    *,
    read: _AsyncRead,
    patch: _AsyncPatch,
    body: _Body | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> _Later: ...
@overload
def release_finalizer(
    name: str,
    *,
    body: _Body,
    apply: _AsyncApply,
    read: _AsyncRead | None = None,
    patch: _AsyncPatch | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> _Later: ...
@overload
def release_finalizer(
    name: str,
    *,
    read: _Read,
    patch: _Patch,
    body: _Body | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> FinalizerOutcome: ...
@overload
def release_finalizer(
    name: str,
    *,
    body: _Body,
    apply: _Apply,
    read: _Read | None = None,
    patch: _Patch | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: _Status | None = None,
) -> FinalizerOutcome: ...
def release_finalizer(
    name: str,
    *,
    read: Callable[[], Any] | None = None,
    patch: Callable[[list[dict[str, Any]]], Any] | None = None,
    apply: Callable[[dict[str, Any], str], Any] | None = None,
    body: _Body | None = None,
    attempts: int = 10,
    backoff: float = 0.1,
    status: Callable[[Exception], int | None] | None = None,
) -> FinalizerOutcome | _Later:
    """Take a finalizer off an object, with all its duplicates, through any client.

    All that is said of `ensure_finalizer` holds here too. The outcome is `released`, `not there`
    or `gone`; after an `apply` it is `released` even though the finalizer was not there, unless the
    `body` was still the latest version.

    An `apply` takes off only what was applied. An entry that came by another kind of patch (Kopf's,
    or `patch` here) stays, which is noticed: `read` and `patch` then release it. The same where a
    list has duplicates of anybody's, which Kubernetes 1.20 cannot apply to (500).

    Raises:
        ConfigurationError: As for `ensure_finalizer`; also when an `apply` has left the finalizer
            on the object, and there is no `read` and `patch`.
        Exception: As for `ensure_finalizer`.

    Example:
        >>> from kopf_finalizers.testing import ApiServer
        >>> path, apply_patch = "/api/v1/namespaces/default", "application/apply-patch+yaml"
        >>> with ApiServer() as server:
        ...
        ...     def apply(manifest, field_manager):
        ...         query = f"?force=true&fieldManager={field_manager}"
        ...         return server.call(
        ...             "PATCH", path + query, manifest, content_type=apply_patch
        ...         )
        ...
        ...     body = server.call("GET", path)
        ...     release_finalizer("mycompany.com/db-operator", body=body, apply=apply)
        <FinalizerOutcome.NOT_THERE: 'not there'>
    """
    find = status_of if status is None else status
    change = Change(check_finalizer(name), body, attempts, backoff, find, adding=False)
    return _begun(change, read, patch, apply)


def apply_configuration(
    body_or_reference: _Body, *, add: str | None = None, remove: str | None = None
) -> tuple[dict[str, Any], str]:
    """A change of one finalizer as a server-side apply, for any client.

    Send it as `application/apply-patch+yaml` with `fieldManager=<the manager>&force=true`. To
    remove is to apply nothing in the same name: it takes off what was applied and nothing else.

    The field manager is `finalizer:<name>`, or where that has more than 128 characters, its first
    63, `~`, and the SHA-256 of the name: no two finalizers have the same. It is nobody else's
    either, and should not be: an apply gives up all that its manager applied before.

    Args:
        body_or_reference: The object, or a reference to it: `apiVersion`, `kind`, `name`, `uid`,
            and `namespace` where it has one, flat or in `metadata`; not changed.
        add: The finalizer to add.
        remove: The finalizer to remove.

    Returns:
        The manifest, always with the `uid` (without it an object that is gone would be created
        anew), and the field manager.

    Raises:
        ConfigurationError: There is not exactly one of the two, the name is not one that an API
            server takes, or the reference lacks something.

    Example:
        >>> reference = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1-2"}
        >>> manifest, manager = apply_configuration(
        ...     reference, add="mycompany.com/db-operator"
        ... )
        >>> manifest["metadata"]
        {'name': 'a', 'uid': '1-2', 'finalizers': ['mycompany.com/db-operator']}
        >>> manager
        'finalizer:mycompany.com/db-operator'
    """
    name = add if remove is None else remove
    if name is None or None not in (add, remove):
        raise ConfigurationError(
            "Give add= or remove=: one apply changes one finalizer. [patch-arguments]"
        )
    manager = f"finalizer:{check_finalizer(name)}"
    if len(manager) > 128:
        manager = f"{manager[:63]}~{hashlib.sha256(name.encode()).hexdigest()}"
    finalizers_of(body_or_reference)  # Refuses what is no body.
    metadata = metadata_of(body_or_reference)
    named = {key: metadata[key] for key in ("name", "namespace", "uid") if metadata.get(key)}
    manifest = {key: body_or_reference.get(key) for key in ("apiVersion", "kind")}
    given = {**manifest, **named}
    missing = [key for key in ("apiVersion", "kind", "name", "uid") if not given.get(key)]
    if missing:
        raise ConfigurationError(
            f"The object to apply to has no {' and no '.join(missing)}: give its body as an API"
            " server returned it, or a reference as of kopf.build_object_reference(body)."
            " [incomplete-reference]"
        )
    return {**manifest, "metadata": {**named, **({"finalizers": [add]} if add else {})}}, manager


def _begun(
    change: Change,
    read: Callable[[], Any] | None,
    patch: Callable[[Any], Any] | None,
    apply: Callable[[Any, str], Any] | None,
) -> FinalizerOutcome | _Later:
    """Bring it about in the way for which there are callables."""
    change.check()
    for what, function in {"read": read, "patch": patch, "apply": apply}.items():
        if function is not None and not callable(function):
            raise ConfigurationError(
                f"{what}= must be a function, which is called when it is needed, and not what it"
                f" returns: it is of type {type(function).__name__}. [client-arguments]"
            )
    by_patch = None if read is None or patch is None else change.by_patch(read, patch)
    if by_patch and apply is None:
        steps = by_patch
    elif apply is not None and change.body is not None and (by_patch or (read is None is patch)):
        manifest, manager = apply_configuration(change.body, **change.wanted)
        steps = change.by_apply(partial(apply, manifest, manager), by_patch)
    else:
        raise ConfigurationError(
            "Give read= and patch=, or apply= and body=, or all four. [client-arguments]"
        )
    return run(change.noted(steps), read, patch, apply)
