"""What all commands have in common when they end.

0: it is done, or the answer is yes. 1: the answer is no. 2: it was called in a way that cannot
work, or could not be done, also for a full disk or after Ctrl-C.
"""

import click

YES, NO, FAILED = 0, 1, 2


class CommandError(click.ClickException):
    """One line about what could not be done."""

    exit_code = FAILED
