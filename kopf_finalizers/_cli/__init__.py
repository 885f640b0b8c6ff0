"""`kopf-finalizers`: names and documents without a cluster; who holds an object, in one.

It is the one package that needs click.
"""

import click

from .commands import Commands


@click.group(
    name="kopf-finalizers",
    cls=Commands,
    # Wide enough that what a command does is one line in the list of commands.
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="kopf-finalizers", prog_name="kopf-finalizers")
def main() -> None:
    """Every Kopf operator its own finalizer.

    Exit codes: 0, it is done or the answer is yes; 1, the answer is no; 2, it was called in a way
    that cannot work, or could not be done.
    """


def plugin() -> None:
    """The same as a plugin: `kubectl kopf-finalizers` runs `kubectl-kopf_finalizers`."""
    main(prog_name="kubectl kopf-finalizers")
