"""The default of arguments for which None means something."""

import enum
from typing import Final


class LeftOut(enum.Enum):
    """The type of `LEFT_OUT`."""

    LEFT_OUT = "left out"

    def __repr__(self) -> str:
        return self.value


LEFT_OUT: Final = LeftOut.LEFT_OUT
