"""Operator B: it only watches gadgets, and has nothing to clean up."""

import os
from pathlib import Path
from typing import Any

import kopf

SEEN = Path(os.environ["DEMO_FOLDER"])


@kopf.on.event("demo.example.com", "v1", "gadgets")
def watch(name: str, **_: Any) -> None:
    (SEEN / f"{name}.seen").touch()
