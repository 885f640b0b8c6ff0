"""`kopf-finalizers`: what finalizers an operator uses, and which names an identity has.

It is the one package that needs click, which Kopf's own command brings.
"""

import click

from .document import document
from .names import name


@click.group(name="kopf-finalizers")
@click.version_option(package_name="kopf-finalizers", prog_name="kopf-finalizers")
def main() -> None:
    """Every Kopf operator its own finalizer."""


for command in (document, name):
    main.add_command(command)
