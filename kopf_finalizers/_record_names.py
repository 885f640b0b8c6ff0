"""How the annotations are called in which an operator's storages keep records.

Kopf (1.44 to 1.45) makes the name of each from the prefix of the storage and a key: that of the
last state, a handler's id, or one of its own. On a ReplicaSet it adds something at the end. All
that is under the prefix of an identity is the operator's; under others users may have annotations
of their own.
"""

from collections.abc import Iterable

import kopf

from ._kopf import parts_on_object
from ._own_records import MARKER


def names_of_progress(handler_ids: Iterable[str], body: kopf.Body | None = None) -> set[str]:
    """What stands after the slash for each handler."""
    storage = kopf.AnnotationsProgressStorage(prefix="any", v1=False)
    keys = (key for one in handler_ids for key in storage.make_keys(one, body=body))
    return {key.rpartition("/")[2] for key in keys}


def is_record(annotation: str, storages: Iterable[object], handler_ids: Iterable[str]) -> bool:
    """Whether one of these storages keeps something there, of these handlers or the last state."""
    prefix, _, name = annotation.rpartition("/")
    keys = {MARKER}
    for storage in storages:
        for part in parts_on_object(storage):
            if getattr(part, "prefix", None) == prefix:
                is_state = isinstance(part, kopf.AnnotationsDiffBaseStorage)
                keys |= {part.key} if is_state else {part.touch_key}
                keys |= set() if is_state else names_of_progress(handler_ids)
    # Of a sub-handler there is more at the end, and on a ReplicaSet.
    return len(keys) > 1 and any(
        name == key or name.startswith((f"{key}.", f"{key}-ofDRS")) for key in keys
    )
