"""What the event loops of the tests' threads have in common."""

import asyncio
import time
from typing import Any


async def until_disconnected() -> None:
    """Let the event loop close its TLS connections: aiohttp does not wait for that itself.

    Else the garbage collector ends them, with a warning in the middle of some later test.
    """
    selector: Any = getattr(asyncio.get_running_loop(), "_selector", None)
    deadline = time.monotonic() + 5
    while len(selector.get_map()) > 1 and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
