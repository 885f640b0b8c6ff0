"""What is written when no cycle of Kopf's sends anything: what is kept of an object for that."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import kopf

from ._bodies import metadata_of, name_of
from ._settings import logger


def small(body: Mapping[str, Any]) -> kopf.Body:
    """As much of an object as a later write needs."""
    metadata = metadata_of(body)
    keys = ("name", "namespace", "uid", "resourceVersion", "finalizers", "deletionTimestamp")
    kept: Any = {"metadata": {key: metadata[key] for key in keys if key in metadata}}
    kept |= {key: body[key] for key in ("apiVersion", "kind") if key in body}
    return kopf.Body(kept)


def smallest_write(
    progress: kopf.ProgressStorage, body: kopf.Body, resource: kopf.Resource
) -> tuple[dict[str, Any], str | None]:
    """A merge patch that has Kopf come back to an object, and the subresource that it goes to.

    It is locked to the version that the body has: where that is not the newest one, an event is on
    its way, and nothing is written.
    """
    metadata, touch = metadata_of(body), kopf.Patch()
    progress.touch(body=body, patch=touch, value=datetime.now(UTC).isoformat())
    lock = {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}
    payload = {**touch, "metadata": {**touch.get("metadata", {}), **lock}}
    # A storage of the operator's own may write the status, which may be a resource of its own.
    status = "status" if touch.keys() & resource.subresources == {"status"} else None
    return payload, status


def logger_of(body: Mapping[str, Any]) -> kopf.Logger:
    """A logger that says of which object it speaks, as Kopf's do."""
    return _Named(logger, {"name": name_of(body)})


class _Named(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """Put the object's name before a message."""
        return f"[{(self.extra or {})['name']}] {msg}", kwargs
