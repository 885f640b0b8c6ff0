"""The group of all commands: each is imported when it is asked for, and ends with its own code.

Those for people on call need neither Kopf nor an operator's dependencies. Python and click exit
with 1 for much that is no answer, which a script would take for one.
"""

import contextlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO

import click

from .errors import FAILED, YES

# Each command, and the module that it is in.
_COMMANDS = {
    "adopt": "adopt",
    "document": "document",
    "holders": "holders",
    "name": "names",
    "release": "release",
    "uninstall": "uninstall",
}


class Commands(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f".{_COMMANDS[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, with nothing cut off."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(limit=200)) for name, one in commands.items() if one]
            )

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _reader_may_leave():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader_may_leave():
            return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> NoReturn:
        """Run a command as from a shell, and exit with what its end means."""
        options["standalone_mode"] = False
        try:
            code = super().main(args, *rest, **options)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            code = FAILED
        except click.Abort:  # click's for Ctrl-C, and for the end of the input to a question
            code = _failed("Interrupted.")
        except OSError as error:
            code = _failed(f"Error: {error.strerror or error}.")
        except Exception:
            traceback.print_exc()
            code = FAILED
        sys.exit(code or YES)


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A reader that has seen enough, as in `| head`, need not be told; click would exit with 1."""
    try:
        yield
    except BrokenPipeError:
        _close(sys.stdout)
        raise click.exceptions.Exit(FAILED) from None


def _failed(message: str) -> int:
    """Say why, as far as anything can be said, and have Python not try to write the rest."""
    with contextlib.suppress(OSError):
        click.echo(message, err=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _close(stream)
    return FAILED


def _close(stream: TextIO) -> None:
    with contextlib.suppress(io.UnsupportedOperation), open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())
