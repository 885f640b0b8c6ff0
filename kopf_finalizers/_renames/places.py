"""Where records can be: what Kopf's two storages say of an object, and where on it they say it.

Kopf (1.44 to 1.45) keeps two kinds of records of an object: how far each handler has come (the
progress storage) and what was handled last (the diff-base storage). An operator may have any
storages; all that is asked of them here is what Kopf asks. There is one question that no storage
answers: where on the object its records are. What it would write tells that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import kopf

from .._kopf import answered, parts_on_object
from .._paths import Path, leaves


@dataclass(frozen=True)
class Place:
    """Where records are kept: a progress storage and a diff-base storage."""

    progress: kopf.ProgressStorage
    diffbase: kopf.DiffBaseStorage

    def last_state(self, body: kopf.Body) -> kopf.BodyEssence | None:
        """What was handled last."""
        return answered(self.diffbase.fetch(body=body))

    def record(self, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come."""
        return answered(self.progress.fetch(key=key, body=body))

    def may_be_on(self, body: kopf.Body) -> bool:
        """Whether there can be anything of it on an object: quick, and asked of each event."""
        parts = [*parts_on_object(self.progress), *parts_on_object(self.diffbase)]
        insides = tuple(f"{part.prefix}/" for part in parts if hasattr(part, "prefix"))
        if any(key.startswith(insides) for key in body.metadata.annotations):
            return True
        return bool(body.get("status")) and any(not hasattr(part, "prefix") for part in parts)

    def keep_last_state(
        self, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence
    ) -> None:
        """Say what was handled last: of an object being deleted, too."""
        metadata = {key: one for key, one in body["metadata"].items() if key != "deletionTimestamp"}
        alive = kopf.Body(cast("kopf.RawBody", {**body, "metadata": metadata}))
        answered(self.diffbase.store(body=alive, patch=patch, essence=essence))

    def essence(self, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """What of an object counts as its state for an operator with these storages."""
        built = answered(self.diffbase.build(body=body, extra_fields=extra_fields))
        return answered(self.progress.clear(essence=built))

    def paths_of_state(self, body: kopf.Body) -> set[Path]:
        """The places on an object where the last state may stand."""
        patch = kopf.Patch()
        for storage in parts_on_object(self.diffbase):
            storage.store(body=_bare(body), patch=patch, essence=kopf.BodyEssence())
        return {path for path, _ in leaves(patch)}

    def paths(self, keys: Iterable[kopf.HandlerId], body: kopf.Body) -> set[Path]:
        """The places where the last state, and the progress of these handlers, may stand."""
        bare, patch, removed = _bare(body), kopf.Patch(), kopf.Patch()
        for storage in parts_on_object(self.progress):
            storage.touch(body=bare, patch=patch, value="")
            for key in keys:
                storage.store(key=key, record=kopf.ProgressRecord(), body=bare, patch=patch)
        for key in keys:  # some of Kopf's storages remove what older ones have written
            answered(self.progress.purge(key=key, body=body, patch=removed))
        written = {path for one in (patch, removed) for path, _ in leaves(one)}
        return written | self.paths_of_state(body)

    def paths_of_progress(self, keys: Iterable[kopf.HandlerId], body: kopf.Body) -> set[Path]:
        """The places where the progress of these handlers may stand, and nothing else."""
        return self.paths(keys, body) - self.paths((), body)


def _bare(body: kopf.Body) -> kopf.Body:
    """The object without anything that a storage may have written."""
    written = ("annotations", "deletionTimestamp")  # a last state may be none of a deletion's
    metadata = {key: one for key, one in body["metadata"].items() if key not in written}
    rest = {key: one for key, one in body.items() if key not in ("metadata", "status")}
    return kopf.Body(cast("kopf.RawBody", {**rest, "metadata": metadata}))
