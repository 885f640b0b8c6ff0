"""Objects being deleted of which nothing is heard: is each still there?

Kopf (1.44 to 1.45) says nothing of an object that went while no watch was open: its list after that
has the others, or is empty. And an event that has waited behind a long call may be looked at when
its object has gone already. So the API server is asked after a while, and after longer ones as long
as the object is there. A cleanup that is tried again is heard of, and costs no request.
"""

import asyncio
from collections.abc import Callable

from .._kopf import RefusedError, is_there
from .held import Deletion

PAUSES = (30.0, 60.0, 120.0, 300.0)
"""Seconds of silence before each question; the last one from then on."""

GRACE = 5.0
"""Seconds in which an event that is on its way is awaited: it tells more than that it has gone."""


class Silence:
    """Asks for the objects that an operator holds.

    Args:
        missing: Called with a deletion of which the object is not there.
    """

    def __init__(self, missing: Callable[[Deletion], None]) -> None:
        self._missing = missing

    def broken(self, deletion: Deletion) -> None:
        """Something was heard of it; the next question comes after the shortest pause."""
        deletion.questions = 0
        self._wait(deletion)

    def _wait(self, deletion: Deletion) -> None:
        pause = PAUSES[min(deletion.questions, len(PAUSES) - 1)]

        def ask() -> None:
            deletion.question = asyncio.get_running_loop().create_task(self._ask(deletion))

        deletion.in_silence(pause, ask)

    async def _ask(self, deletion: Deletion) -> None:
        deletion.questions += 1
        try:
            found = await is_there(
                deletion.resource,
                deletion.reference["metadata"],
                settings=deletion.settings,
                logger=deletion.logger,
            )
        except RefusedError as refusal:
            deletion.logger.debug("It is not known whether this object is still there: %s", refusal)
            found = True
        if found:
            self._wait(deletion)
        else:
            deletion.in_silence(GRACE, lambda: self._missing(deletion))
