"""An operator's own records, and whose they are: annotations travel from one object to another.

They come back with a backup, on an object that is made again and has another uid; and operators
copy them to the objects that they make, as Kubernetes does. So each object with records says whose
they are, in an annotation beside them: its kind, namespace, name and uid.

| the records are | the last state | progress |
| --- | --- | --- |
| the object's own, or do not say whose | is believed | is believed |
| of one with its kind, namespace and name | is believed, as plain Kopf does | is not |
| of another object | is not | is not |

Progress of a deletion on an object that is alive is never believed. No clocks are compared.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import kopf

from ._bodies import is_being_deleted
from ._paths import take
from ._records_of_others import KOPFS_KEY
from ._whole_list import hold_whole_list_back

_Whose: TypeAlias = Literal["its own", "its name's", "another's"]

OWNER = "records-of"
"""What the annotation is called, under the prefix."""

MARKER = "kopf-managed"
"""What Kopf calls the mark of a prefix that is an operator's."""


class _Owner:
    """Whose the records of a storage are."""

    def __init__(
        self, storage: kopf.AnnotationsProgressStorage | kopf.AnnotationsDiffBaseStorage, state: str
    ) -> None:
        self._storage = storage
        (self._usual_key,) = storage.make_keys(OWNER)
        self._inside = f"{storage.prefix}/"
        # What is no progress there; Kopf may name it otherwise on some objects, by more at the end.
        self._kept = tuple(f"{self._inside}{one}" for one in (state, MARKER))

    def whose(self, body: kopf.Body) -> _Whose:
        """Whose they are, as far as they say it."""
        # Asked in every cycle: Kopf's views of a body look everything up from its root.
        said = (body["metadata"].get("annotations") or {}).get(self._key(body))
        if said is None or said == (owner := _owner(body)):
            return "its own"
        return "its name's" if said.split("/")[:-1] == owner.split("/")[:-1] else "another's"

    def note(self, body: kopf.Body, patch: kopf.Patch) -> None:
        """Say it with what a patch writes, and take away what is not believed.

        Else that would be believed from then on. Nobody else writes under the prefix, so all that
        is neither said by the patch nor of the last state is progress.
        """
        annotations = body["metadata"].get("annotations") or {}
        key, owner = self._key(body), _owner(body)
        if annotations.get(key) == owner:
            return
        if self.whose(body) != "its own":
            for one in annotations:
                is_progress = one.startswith(self._inside) and not one.startswith(self._kept)
                if is_progress and one not in patch.metadata.annotations:
                    patch.metadata.annotations[one] = None
        patch.metadata.annotations[key] = owner

    def take_back(self, body: kopf.Body, patch: kopf.Patch) -> None:
        """Take it out of a patch that writes no record any more, with Kopf's mark."""
        written = (patch.get("metadata") or {}).get("annotations") or {}
        ours = {key for key, value in written.items() if key.startswith(self._inside) and value}
        if ours <= {self._key(body), f"{self._inside}{MARKER}"}:
            for key in ours:
                take(patch, ("metadata", "annotations", key))

    def _key(self, body: kopf.Body) -> str:
        # Kopf names it otherwise on a ReplicaSet: Kubernetes copies there what its Deployment has.
        if body.get("kind") != "ReplicaSet":
            return self._usual_key
        return next(iter(self._storage.make_keys(OWNER, body=body)))


def _owner(body: kopf.Body) -> str:
    metadata = body["metadata"]
    namespace, name, uid = (metadata.get(key) or "" for key in ("namespace", "name", "uid"))
    return f"{body.get('kind') or ''}/{namespace}/{name}/{uid}"


class OwnProgress(kopf.AnnotationsProgressStorage):
    """How far handlers have come with an object.

    The older form of Kopf's keys, which no operator has ever written under such a prefix, is left
    out: it fits prefix and key into 63 characters together, and so cuts long prefixes short.

    Args:
        prefix: The operator's own.
        look_at: What looks at each handler of which something is stored.
        state: What the last state is called, under the same prefix.
    """

    def __init__(
        self, prefix: str, look_at: Callable[[str], None], *, state: str = KOPFS_KEY
    ) -> None:
        super().__init__(prefix=prefix, v1=False)
        self._owner = _Owner(self, state)
        self._look_at = look_at

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:
        """How far a handler has come with this object."""
        record = super().fetch(key=key, body=body)
        if record is None or self._owner.whose(body) != "its own":
            return None
        is_early = record.get("purpose") == "delete" and not is_being_deleted(body)
        return None if is_early else record

    def store(
        self,
        *,
        key: kopf.HandlerId,
        record: kopf.ProgressRecord,
        body: kopf.Body,
        patch: kopf.Patch,
    ) -> None:
        """Keep how far a handler has come, and say with which object."""
        self._look_at(key)
        super().store(key=key, record=record, body=body, patch=patch)
        self._owner.note(body, patch)

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Forget how far a handler has come."""
        super().purge(key=key, body=body, patch=patch)
        self._owner.take_back(body, patch)

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Change something on the object, or take that off right before a patch is sent."""
        if value is None:
            hold_whole_list_back(patch, body)
        super().touch(body=body, patch=patch, value=value)


class OwnDiffBase(kopf.AnnotationsDiffBaseStorage):
    """What of an object was handled last.

    Args:
        prefix: The operator's own.
        look_at: What looks at each object that Kopf handles.
        options: Kopf's: `key`, `ignored_fields`.
    """

    is_missing: Callable[[kopf.Body], None] | None = None
    """What is told of each object that has no last state, in each cycle."""

    def __init__(self, prefix: str, look_at: Callable[[kopf.Body], None], **options: Any) -> None:
        super().__init__(prefix=prefix, v1=False, **options)
        self._owner = _Owner(self, self.key)
        self._look_at = look_at

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """What of this object was handled last."""
        self._look_at(body)
        is_another = self._owner.whose(body) == "another's"
        essence = None if is_another else super().fetch(body=body)
        if essence is None and self.is_missing is not None:
            self.is_missing(body)
        return essence

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep what is handled, and say of which object."""
        if is_being_deleted(body):
            return  # nobody asks for it any more, and it might not fit
        super().store(body=body, patch=patch, essence=essence)
        self._owner.note(body, patch)
