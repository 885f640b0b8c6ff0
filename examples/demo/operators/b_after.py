"""Operator B: it only watches gadgets, and has nothing to clean up."""

import os
from pathlib import Path
from typing import Any

import kopf
import kopf_finalizers

kopf_finalizers.configure(domain="example.com", operator="watcher", finalizer=None)

SEEN = Path(os.environ["DEMO_FOLDER"])


@kopf.on.event("demo.example.com", "v1", "gadgets")
def watch(name: str, **_: Any) -> None:
    (SEEN / f"{name}.seen").touch()
