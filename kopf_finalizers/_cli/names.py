"""`kopf-finalizers name`: which names an identity has."""

import json
import sys

import click

from .._errors import ConfigurationError
from .._names import OperatorIdentity


@click.command()
@click.option("--domain", required=True, help="A domain that the organisation owns.")
@click.option("--operator", required=True, help="The operator's name in the organisation.")
@click.option("--purpose", "purposes", multiple=True, help="What a dedicated finalizer is for.")
@click.option("--format", "format_", type=click.Choice(["yaml", "json"]), default="yaml")
def name(domain: str, operator: str, purposes: tuple[str, ...], format_: str) -> None:
    """Print the names of an operator, or which rule they would break, with the exit code 1."""
    try:
        identity = OperatorIdentity.checked(domain=domain, operator=operator)
        dedicated = {purpose: identity.finalizer_for(purpose) for purpose in purposes}
    except ConfigurationError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    names = {"finalizer": identity.finalizer, "storagePrefix": identity.storage_prefix}
    if format_ == "json":
        click.echo(json.dumps(names | {"dedicatedFinalizers": dedicated}, indent=2))
        return
    lines = [f"{key}: {value}" for key, value in names.items()]
    if dedicated:
        lines += ["dedicatedFinalizers:"]
        lines += [f"  {json.dumps(purpose)}: {value}" for purpose, value in dedicated.items()]
    click.echo("\n".join(lines))
