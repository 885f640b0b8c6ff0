"""`kopf-finalizers document`: what finalizers an operator uses, for people and for programs."""

import difflib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from .._finalizers import Finalizers
from .._inventory import InventoryEntry, release_command
from .errors import CommandError
from .loading import finalizers_of


@click.command()
@click.option(
    "-m", "--module", "modules", multiple=True, help="A module to import, as in kopf run."
)
@click.option("--format", "format_", type=click.Choice(["markdown", "json"]), default="markdown")
@click.option("--check", "file", type=click.Path(path_type=Path), help="Compare with this file.")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an operator that fails.")
@click.argument("paths", nargs=-1)
def document(
    modules: tuple[str, ...],
    format_: str,
    file: Path | None,
    verbose: bool,  # noqa: FBT001 - click passes keywords
    paths: tuple[str, ...],
) -> None:
    """Print which finalizers an operator uses, and how each is released by hand.

    The operator is loaded as `kopf run` loads it, from the same files and modules, but not run, and
    no cluster is asked. With --check nothing is printed where the file says the same; else the
    difference is, and the exit code is 1. Any error has the exit code 2.
    """
    if not paths and not modules:
        raise CommandError("Name the operator's files, or its modules with -m, as in kopf run.")
    finalizers = finalizers_of(paths, modules, verbose=verbose)
    text = {"markdown": as_markdown, "json": as_json}[format_](finalizers)
    if file is None:
        click.echo(text, nl=False)
    elif difference := _difference(file, text):
        click.echo(difference, nl=False)
        click.echo(f"{file} is out of date.", err=True)
        sys.exit(1)


def as_json(finalizers: Finalizers) -> str:
    """The inventory for programs."""
    entries = [asdict(entry) for entry in finalizers.inventory()]
    return json.dumps({"operator": finalizers.name, "finalizers": entries}, indent=2) + "\n"


def as_markdown(finalizers: Finalizers) -> str:
    """The inventory for people."""
    return "\n\n".join([f"# Finalizers of {finalizers.name}", *_paragraphs(finalizers)]) + "\n"


def _paragraphs(finalizers: Finalizers) -> Iterator[str]:
    entries = finalizers.inventory()
    if finalizers.watches_only:
        yield (
            "This operator only watches: no handler of `finalizers.on` puts a finalizer on any"
            " object."
        )
        return
    if entries:
        yield (
            "Objects carry these finalizers while the operator has something to do before they may"
            " go. It takes each off by itself, on an object being deleted, when what it waits for"
            " has happened."
        )
        yield _table(entries)
    if finalizers.former:
        names = ", ".join(f"`{name}`" for name in finalizers.former)
        yield f"It has had other names before, which objects may still carry: {names}."
    yield (
        f"`{finalizers.name}` is the operator's own. It is also put on the objects of handlers that"
        " are declared with Kopf's own `kopf.on.delete` (unless they are `optional`),"
        " `kopf.on.daemon` and `kopf.on.timer`; these are not listed here."
    )
    yield "## Releasing one by hand"
    yield (
        "Where the operator is gone for good, or cannot do what a finalizer waits for, these"
        " commands take that one finalizer off one object, and leave everyone else's as they are."
        " What it waits for is then not done. If the API server refuses the patch, the list has"
        " changed in between: run the command again."
    )
    for command, uses in _by_command(entries).items():
        yield f"`{uses[0].name}` on {', '.join(dict.fromkeys(use.resource for use in uses))}:"
        yield f"```sh\n{command}\n```"
    if not any(entry.name == finalizers.name for entry in entries):
        yield f"`{finalizers.name}`, with the resource in place of RESOURCE:"
        yield f"```sh\n{release_command(finalizers.name)}\n```"


def _table(entries: Iterable[InventoryEntry]) -> str:
    columns = (
        *("Finalizer", "Objects", "What it is for", "Waits for", "Handler"),
        "Stays behind if it is released by hand",
    )
    rows = [columns, ("---",) * len(columns)]
    for entry in entries:
        former = f", the former name of `{entry.former_of}`" if entry.former_of else ""
        by_hand = "handlers, by hand"
        handler = f"`{entry.handler}` ({entry.decorator})" if entry.handler else by_hand
        words = (_cell(entry.purpose), entry.waits_for, handler, _cell(entry.leaves))
        rows.append((f"`{entry.name}`{former}", entry.resource, *words))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: str | None) -> str:
    """What somebody has written, in a table; that nothing was written is to be seen, too."""
    return (text or "not said").replace("|", "\\|")


def _by_command(entries: Iterable[InventoryEntry]) -> dict[str, list[InventoryEntry]]:
    """The same command is given once, though several handlers may need the finalizer."""
    found = dict[str, list[InventoryEntry]]()
    for entry in entries:
        found.setdefault(entry.release, []).append(entry)
    return found


def _difference(file: Path, text: str) -> str:
    try:
        before = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(f"{file} does not exist: write it first, without --check.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from None
    old, new = (one.splitlines(keepends=True) for one in (before, text))
    return "".join(difflib.unified_diff(old, new, fromfile=str(file), tofile="the operator"))
