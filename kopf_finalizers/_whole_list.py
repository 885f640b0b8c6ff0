"""A handler that replaces the whole list of finalizers, everybody's: refused, or held back.

Kopf (1.44 to 1.45) sends what a handler writes into `patch.metadata["finalizers"]` as a merge
patch, which has no `test`: whatever others have put there is gone. Where the library sees a patch
before it is sent, which is where Kopf removes its last touch of an object, it takes that out. The
rest of the patch goes: an error there would lose the progress, and call handlers at every event.
"""

import logging
from collections.abc import Mapping
from typing import Any

import kopf

from ._bodies import metadata_of
from ._errors import ConfigurationError

logger = logging.getLogger("kopf_finalizers")

WHOLE_LIST = (
    'A handler has written patch.metadata["finalizers"], which replaces the whole list and takes'
    " everybody else's finalizers off. Remove that line and change one entry: with"
    " finalizers.add(patch) or finalizers.remove(patch), or with"
    " kopf_finalizers.add_finalizer(patch, name) or remove_finalizer(patch, name). [whole-list]"
)


def refuse_whole_list(patch: kopf.Patch) -> None:
    """Refuse a patch that replaces the whole list of finalizers.

    Raises:
        ConfigurationError: A handler has written `patch.metadata["finalizers"]`.
    """
    if "finalizers" in (patch.get("metadata") or {}):
        raise ConfigurationError(WHOLE_LIST)


def hold_whole_list_back(patch: kopf.Patch, body: Mapping[str, Any]) -> None:
    """Take it out of a patch that is about to be sent, with an error in the log."""
    metadata = patch.get("metadata") or {}
    if "finalizers" not in metadata:
        return
    held = metadata.pop("finalizers")
    if not metadata:
        del patch["metadata"]
    found = metadata_of(body)
    name = "/".join(filter(None, [found.get("namespace"), found.get("name")]))
    logger.error("Not sent, of %s: finalizers %s. %s", name, held, WHOLE_LIST)
