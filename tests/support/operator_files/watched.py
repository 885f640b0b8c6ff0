"""An operator whose series are served over HTTP, with cleanups that end as a test wants them to."""

import os
from pathlib import Path
from typing import Any

import kopf
import prometheus_client

import kopf_finalizers
from kopf_finalizers import instrumentation

EFFECTS = Path(os.environ["EFFECTS"])
RESOURCE = (os.environ["GROUP"], "v1", os.environ["PLURAL"])

finalizers = kopf_finalizers.configure(domain="mycompany.com", operator="db-operator")


@kopf.on.startup()
def serve(**_: Any) -> None:
    instrumentation.use_prometheus()
    prometheus_client.start_http_server(int(os.environ["PORT"]), addr="127.0.0.1")


@finalizers.on.create(*RESOURCE)
def create_fn(**_: Any) -> None: ...


@finalizers.on.delete(*RESOURCE, finalizer="dns", release_after=2, on_timeout="release")
def drop_dns(**_: Any) -> None:
    with (EFFECTS / "dns").open("a") as calls:
        calls.write("called\n")
    raise kopf.TemporaryError("the nameserver is away", delay=3600)


@finalizers.on.delete(*RESOURCE, finalizer="backups")
def drop_backups(**_: Any) -> None:
    if not (EFFECTS / "may-go").exists():
        raise kopf.TemporaryError("not yet", delay=0.2)
