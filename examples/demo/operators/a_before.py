"""Operator A: it makes a backup of each gadget, and must drop it before the gadget is gone."""

import asyncio
import os
from pathlib import Path
from typing import Any

import kopf

BACKUPS = Path(os.environ["DEMO_FOLDER"])


@kopf.on.create("demo.example.com", "v1", "gadgets")
def make_backup(name: str, **_: Any) -> None:
    (BACKUPS / f"{name}.made").touch()


@kopf.on.delete("demo.example.com", "v1", "gadgets")
async def drop_backup(name: str, **_: Any) -> None:
    (BACKUPS / f"{name}.dropping").touch()
    await asyncio.sleep(1)  # What a cleanup is for takes its time.
    (BACKUPS / f"{name}.dropped").touch()
