"""`kopf-finalizers`: names and documents without a cluster; who holds an object, in one.

It is the one package that needs click, which Kopf's own command brings. Each command is imported
when it is asked for: those for people on call need neither Kopf nor an operator's dependencies.
"""

import importlib

import click

_COMMANDS = {
    "document": "document",
    "holders": "holders",
    "name": "names",
}


class _Commands(click.Group):
    """The commands, each with the module that it is in."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f".{_COMMANDS[cmd_name]}", __name__)
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(name="kopf-finalizers", cls=_Commands)
@click.version_option(package_name="kopf-finalizers", prog_name="kopf-finalizers")
def main() -> None:
    """Every Kopf operator its own finalizer."""


def plugin() -> None:
    """The same as a plugin: `kubectl kopf-finalizers` runs `kubectl-kopf_finalizers`."""
    main(prog_name="kubectl kopf-finalizers")
