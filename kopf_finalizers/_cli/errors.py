"""How a command fails."""

import click


class CommandError(click.ClickException):
    """One line; the exit code is the one of wrong usage, since 1 is an answer of each command."""

    exit_code = 2
