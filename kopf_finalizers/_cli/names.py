"""`kopf-finalizers name`: which names an identity has, and whether a name can be one."""

import json

import click

from .._errors import ConfigurationError
from .._identity import OperatorIdentity
from .errors import NO


@click.command()
@click.option("--domain", help="A domain that the organisation owns.")
@click.option("--operator", help="The operator's name in the organisation.")
@click.option(
    "--finalizer",
    metavar="FINALIZER",
    help="In place of these two: a whole finalizer, or a template of one with {name} in it.",
)
@click.option("--name", "filled_in", metavar="NAME", help="What {name} in the template stands for.")
@click.option(
    "--purpose",
    "purposes",
    multiple=True,
    metavar="PURPOSE",
    help="What a dedicated finalizer is for, or its whole name; may be repeated.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="With the same keys.",
)
def name(
    domain: str | None,
    operator: str | None,
    finalizer: str | None,
    filled_in: str | None,
    purposes: tuple[str, ...],
    format_: str,
) -> None:
    """Print the names of an operator, or which rule they would break.

    With --finalizer it tells whether a finalizer that is in use can be that of an operator.

    Where a name will not do, the exit code is 1.
    """
    _refuse_what_does_not_go_together(domain, operator, finalizer, filled_in)
    try:
        if finalizer is None:
            identity = OperatorIdentity.checked(domain=domain, operator=operator)
        else:
            identity = OperatorIdentity.from_template(finalizer, name=filled_in)
        dedicated = {purpose: _dedicated(identity, purpose) for purpose in purposes}
    except ConfigurationError as error:
        click.echo(f"Error: {error}", err=True)
        click.get_current_context().exit(NO)
    names = {"finalizer": identity.finalizer, "storagePrefix": identity.storage_prefix}
    if format_ == "json":
        click.echo(json.dumps(names | {"dedicatedFinalizers": dedicated}, indent=2))
        return
    lines = [f"{key}: {value}" for key, value in names.items()]
    if dedicated:
        lines += ["dedicatedFinalizers:"]
        lines += [f"  {json.dumps(purpose)}: {value}" for purpose, value in dedicated.items()]
    click.echo("\n".join(lines))


def _refuse_what_does_not_go_together(
    domain: str | None, operator: str | None, finalizer: str | None, filled_in: str | None
) -> None:
    """What `configure` refuses too, said of options."""
    if finalizer is None:
        given = {"--domain": domain, "--operator": operator}
        if missing := [option for option, value in given.items() if value is None]:
            raise click.UsageError(
                f"{' and '.join(missing)} is missing: give --domain and --operator, or --finalizer."
            )
    elif domain is not None or operator is not None:
        raise click.UsageError(
            "--finalizer stands in place of --domain and --operator: leave these two out, or it."
        )
    has_place = finalizer is not None and "{name}" in finalizer
    if filled_in is not None and not has_place:
        raise click.UsageError(
            f"--name {filled_in} fills in a template, and there is none: write it as in"
            " --finalizer 'mycompany.com/operator-{name}', or leave --name out."
        )
    if has_place and filled_in is None:
        raise click.UsageError(f"{finalizer} has {{name}}: say with --name what it stands for.")


def _dedicated(identity: OperatorIdentity, purpose: str) -> str:
    if purpose == identity.finalizer:
        raise ConfigurationError(
            f'"{purpose}" is the operator\'s own finalizer, and is printed without --purpose too:'
            " a dedicated one has another name. [own-finalizer]"
        )
    return identity.finalizer_for(purpose)
