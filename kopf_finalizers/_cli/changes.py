"""How `release` and `uninstall` end: ask, change the objects, and say what becomes of each."""

from collections import Counter
from collections.abc import Sequence

import click

from .._cluster.changing import Change, Outcome, Target, What, change_all
from .terminal import confirm


def change_asked(
    targets: Sequence[Target], question: str, change: Change, *, dry_run: str, yes: bool
) -> set[What] | None:
    """Ask, unless it is a dry run, and change the objects.

    Returns:
        What has become of them; None where it was interrupted.
    """
    if dry_run == "client":
        click.echo("Nothing was changed (client dry run).", err=True)
        return set()
    suffix = " (server dry run)" if dry_run == "server" else ""
    if not suffix:
        confirm(question, yes=yes)
    counts = Counter[What]()

    def tell(target: Target, outcome: Outcome) -> None:
        counts[outcome.what] += 1
        click.echo(f"{target.name}: {outcome}{suffix}")

    ended = change_all(targets, change, tell)
    if len(targets) > 1 or not ended:
        told = ", ".join(f"{counts[what]:,} {what}" for what in What if counts[what])
        click.echo(f"Of {counted(targets)}: {told}{suffix}.", err=True)
    if not ended:
        click.echo("Interrupted. What is not done can be done by the same command.", err=True)
        return None
    return set(counts)


def counted(objects: Sequence[object]) -> str:
    """How many they are: `1 object`, `2,000 objects`."""
    return f"{len(objects):,} object{'' if len(objects) == 1 else 's'}"
