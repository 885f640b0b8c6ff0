"""Which cleanups are not to be called any more, though they have not succeeded.

Two things call one off: the annotation of `skip_cleanup=`, as long as it is there, and for good the
end of the time of `release_after=`. Kopf (1.44 to 1.45) knows neither. So it is told of such a
cleanup that it was given up, and does not call it; that is not stored.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import kopf
from pydantic import TypeAdapter, ValidationError

from .._bodies import metadata_of
from .._errors import ConfigurationError
from .._identity import OperatorIdentity
from .._names import FinalizerName
from ..instrumentation import CleanupOutcome
from .held import Deletion, Hold

# Kubernetes has the same rule for both.
_ANNOTATION = TypeAdapter[str](FinalizerName)

EVERY = "*"
"""In the annotation: every cleanup, those without a purpose, too."""


def annotation_of(skip_cleanup: object) -> str | None:
    """The annotation that `configure(skip_cleanup=)` was given.

    Raises:
        ConfigurationError: It is no name of an annotation with a domain.
    """
    if skip_cleanup is None:
        return None
    try:
        annotation = _ANNOTATION.validate_python(skip_cleanup)
    except ValidationError:
        annotation = ""
    if "/" not in annotation:
        raise ConfigurationError(
            f"skip_cleanup={skip_cleanup!r} must be the name of an annotation, with a domain of the"
            ' organisation, as in skip_cleanup="mycompany.com/skip-cleanup". [skip-cleanup]'
        )
    return annotation


class CallingOff:
    """Which cleanups of an operator are not to be called.

    Args:
        identity: Whose purposes the annotation has.
        annotation: The one of `skip_cleanup=`, if there is one.
    """

    def __init__(self, identity: OperatorIdentity, annotation: str | None = None) -> None:
        self._identity = identity
        self.annotation = annotation

    def decide(self, deletion: Deletion, body: kopf.Body) -> Iterator[tuple[Hold, CleanupOutcome]]:
        """Which handlers are called off; and what holds the object and goes for that, told once."""
        skips, skips_all = self._skipped(deletion, body)
        before = deletion.called_off
        deletion.called_off = {
            one.handler_id: CleanupOutcome.OVERDUE
            for one in deletion.cleanups
            if one.is_released
            and one.release_after is not None
            and one.release_after <= deletion.seconds()
        }
        for one in deletion.cleanups:
            if skips_all or one.finalizer in skips:
                deletion.called_off.setdefault(one.handler_id, CleanupOutcome.SKIPPED)
        if skips_all:
            deletion.called_off |= dict.fromkeys(deletion.others, CleanupOutcome.SKIPPED)
        for hold in deletion.holds.values():
            ids = deletion.others if hold is deletion.own else {c.handler_id for c in hold.cleanups}
            done = {one for one in ids if one in hold.progress and hold.progress[one].is_finished}
            reasons = {deletion.called_off[one] for one in ids - done if one in deletion.called_off}
            hold.called_off = next(iter(reasons), None)
            if reasons and not before.keys() & ids:
                yield hold, reasons.pop()

    def record(
        self, deletion: Deletion, key: str, record: kopf.ProgressRecord | None
    ) -> kopf.ProgressRecord:
        """What Kopf is told of a cleanup that is called off: it never writes that down."""
        known = record if record is not None and record.get("purpose") == "delete" else None
        now = deletion.moment(deletion.seconds())
        told: dict[str, Any] = {
            "started": (known or {}).get("started") or now,
            "stopped": now,
            "purpose": "delete",
            "retries": (known or {}).get("retries") or 0,
            "success": False,
            "failure": True,
            "message": f"called off: {deletion.called_off[key]}",
        }
        return cast("kopf.ProgressRecord", told)

    def awakened(
        self, deletion: Deletion, key: str, record: kopf.ProgressRecord | None
    ) -> kopf.ProgressRecord | None:
        """How far a cleanup is, and at the latest at its deadline Kopf looks again."""
        if record is None or not record.get("delayed"):
            return record
        deadlines = [
            one.release_after
            for one in deletion.cleanups
            if one.handler_id == key and one.is_released and one.release_after is not None
        ]
        if not deadlines:
            return record
        delayed = min(deletion.moment(min(deadlines)), record["delayed"] or "")
        return cast("kopf.ProgressRecord", {**record, "delayed": delayed})

    def _skipped(self, deletion: Deletion, body: Mapping[str, Any]) -> tuple[set[str], bool]:
        """The finalizers that the annotation names by their purposes, and whether it means all."""
        annotations = metadata_of(body).get("annotations") or {}
        value = annotations.get(self.annotation) if self.annotation else None
        purposes = {one.strip() for one in (value or "").split(",")} - {""}
        names = dict(self._names(purposes - {EVERY}))
        known = {one.finalizer for one in deletion.cleanups}
        unknown = [purpose for purpose, name in names.items() if name not in known]
        if unknown and deletion.annotation != value:
            deletion.annotation = value
            deletion.logger.warning(
                f"{self.annotation} names purposes of which this operator has no cleanup here:"
                f" {', '.join(sorted(unknown))}. It has: {', '.join(sorted(known)) or 'none'}."
                " [skip-unknown]"
            )
        return {name for name in names.values() if name is not None}, EVERY in purposes

    def _names(self, purposes: set[str]) -> Iterator[tuple[str, str | None]]:
        for purpose in purposes:
            try:
                yield purpose, self._identity.finalizer_for(purpose)
            except ConfigurationError:
                yield purpose, None
