"""The part of Kopf's cycle in which the library takes part, without Kopf around it."""

import itertools
import logging
from collections.abc import Callable
from typing import Any, cast

import kopf

from kopf_finalizers import configure

from .kopf_cycles import RESOURCE


def settled_event(count: int) -> Callable[[], object]:
    """One event of an object that has all of its dedicated finalizers.

    What Kopf asks the library of it: the storage once, and every filter.
    """
    registry = kopf.OperatorRegistry()
    finalizers = configure("mycompany.com", "db-operator", registry=registry)
    for number in range(count):

        async def cleanup(**_: Any) -> None: ...

        finalizers.on.delete(
            "example.com", "v1", "things", id=f"cleanup-{number}", finalizer=f"p{number}"
        )(cleanup)

    async def guarded(**_: Any) -> None: ...

    finalizers.on.delete("example.com", "v1", "things")(guarded)
    settings = kopf.OperatorSettings()
    finalizers.apply(settings)
    names = [finalizers.name_for(f"p{number}") for number in range(count)]
    metadata = {"name": "one", "uid": "1-2", "finalizers": [finalizers.name, *names]}
    body = kopf.Body(cast("kopf.RawBody", {"metadata": metadata}))
    filters = [handler.when for handler in registry._watching._handlers]
    logger = logging.getLogger("tests")
    given: dict[str, Any] = {"body": body, "type": "MODIFIED", "logger": logger}
    given |= {"resource": RESOURCE}

    # Kopf makes a patch for each event, which tells one from the next; here two take turns.
    patches = itertools.cycle([kopf.Patch(body=body), kopf.Patch(body=body)])

    def event() -> object:
        patch = next(patches)
        settings.persistence.progress_storage.clear(essence=kopf.BodyEssence())
        for when in filters:
            assert when is not None
            when(patch=patch, **given)
        return patch

    return event
