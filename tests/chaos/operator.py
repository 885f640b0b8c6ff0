"""One of the operators in the chaos. Its effects are files, so they outlive it and the cluster.

OPERATOR names it; "plain" is one with Kopf and its default names alone, and "gamma" handles two
versions of the kind, with a cleanup in each. What is cleaned up is noted in CLEANED, too.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf
import prometheus_client

import kopf_finalizers
from kopf_finalizers import instrumentation

NAME = os.environ["OPERATOR"]
EFFECTS = Path(os.environ["EFFECTS"])
CLEANED = Path(os.environ["CLEANED"])
GROUP, PLURAL = os.environ["GROUP"], os.environ["PLURAL"]
RESOURCE = (GROUP, "v1", PLURAL)
OTHER_VERSION = (GROUP, "v1beta1", PLURAL)
PARTS = ("one", "two")


def effect(uid: str, part: str) -> Path:
    return EFFECTS / f"{uid}.{NAME}.{part}"


def create_fn(uid: str, **_: Any) -> None:
    for part in PARTS:
        effect(uid, part).touch()


def cleanup(part: str) -> Callable[..., None]:
    def cleanup_fn(uid: str, retry: int, **_: Any) -> None:
        # Some cleanups fail at first: which ones follows from the object.
        if retry < int(uid[0], 16) % 3:
            raise kopf.TemporaryError("not yet", delay=0.3)
        effect(uid, part).unlink(missing_ok=True)
        (CLEANED / f"{uid}.{NAME}.{part}").touch()

    return cleanup_fn


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    instrumentation.use_prometheus()
    prometheus_client.start_http_server(int(os.environ["PORT"]), addr="127.0.0.1")


if NAME == "plain":
    kopf.on.create(*RESOURCE, id="create")(create_fn)
    for one in PARTS:
        kopf.on.delete(*RESOURCE, id=one)(cleanup(one))
else:
    finalizers = kopf_finalizers.configure(domain="mycompany.com", operator=NAME)
    finalizers.on.create(*RESOURCE, id="create")(create_fn)
    for one in PARTS:
        resource = OTHER_VERSION if (NAME, one) == ("gamma", "two") else RESOURCE
        finalizers.on.delete(*resource, finalizer=one, id=one)(cleanup(one))
