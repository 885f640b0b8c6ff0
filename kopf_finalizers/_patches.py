"""Own-finalizer changes inside Kopf: one entry of the list is added or removed, and nothing else.

Such a change is a function on `patch.fns` (Kopf 1.44 to 1.45), which Kopf calls with the freshest
body and calls again after a conflict. The rule is that of `_plain_patches`.
"""

import kopf

from ._changes import AddFinalizer, RemoveFinalizer, append
from ._names import check_finalizer


def add_finalizer(patch: kopf.Patch, name: str) -> None:
    """Put a finalizer on an object through the patch that Kopf gives to a handler.

    Kopf sends it with whatever else the handler patches, on the freshest body that it has, and
    again after a conflict. It does nothing where the finalizer is already on the object, or where
    the object is being deleted: Kubernetes adds none then. In a daemon or a timer, Kopf sends it
    again with the patch of the next call, and what the last call could not send is lost: call
    `Finalizers.add` there.

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
    append(patch, AddFinalizer(check_finalizer(name), patch))


def remove_finalizer(patch: kopf.Patch, name: str) -> None:
    """Take a finalizer off an object through the patch that Kopf gives to a handler.

    All its duplicates go, nobody else's entry does, and it does nothing where there is none.
    Kopf sends it as it sends `add_finalizer`. A finalizer that a handler of this resource declares
    with `finalizer=` goes by itself: the removal of such a one is not sent, with an error in the
    log. (From a daemon or a timer it is sent, and the finalizer is put on again.)

    Raises:
        ConfigurationError: As for `add_finalizer`.

    Example:
        >>> @kopf.on.event("mygroup", "v1", "myresources")
        ... def release(body, patch, **_):
        ...     if body.get("status", {}).get("backups") == "gone":
        ...         remove_finalizer(patch, "mycompany.com/db-operator.backups")
    """
    append(patch, RemoveFinalizer(check_finalizer(name), patch))
