"""`kopf-finalizers document`: what finalizers an operator uses, for people and for programs."""

import difflib
import functools
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click

from .._cluster.ages import write_span
from .._finalizers import Finalizers
from .._inventory import InventoryEntry, release_command
from .alerts import as_alerts
from .clusters import Span
from .errors import NO, CommandError
from .loading import finalizers_of


@click.command()
@click.option(
    "-m",
    "--module",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="A module to import, as in kopf run; may be repeated.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["markdown", "json", "prometheus"]),
    default="markdown",
    show_default=True,
    help="For people, for programs, or alert rules for Prometheus.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to this file, which stays as it is if anything fails.",
)
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Print nothing but how this file differs from what would be written.",
)
@click.option(
    "--stuck-for",
    type=Span(),
    default="1h",
    show_default=True,
    help="How long a deletion lasts that the alert rules take to be stuck.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an operator that fails.")
@click.argument("paths", nargs=-1, type=click.Path(), metavar="[FILE.py]...")
@click.pass_context
def document(
    context: click.Context,
    modules: tuple[str, ...],
    format_: str,
    stuck_for: timedelta,
    output: Path | None,
    check: Path | None,
    verbose: bool,  # noqa: FBT001 - click passes keywords
    paths: tuple[str, ...],
) -> None:
    """Print which finalizers an operator uses, and how each is released by hand.

    The operator is loaded as `kopf run` loads it, from the same files and modules, but not run, and
    no cluster is asked.

    With --check, the exit code is 1 where the file is out of date.
    """
    if not paths and not modules:
        raise CommandError("Name the operator's files, or its modules with -m, as in kopf run.")
    if output is not None and check is not None:
        raise CommandError("--output writes the file that --check compares: leave one of them out.")
    finalizers = finalizers_of(paths, modules, verbose=verbose)
    forms: dict[str, Callable[[Finalizers], str]] = {
        "markdown": as_markdown,
        "json": as_json,
        "prometheus": functools.partial(as_alerts, stuck_for=stuck_for),
    }
    text = forms[format_](finalizers)
    if output is not None:
        write(output, text)
    elif check is None:
        click.echo(text, nl=False)
    else:
        named = [part for module in modules for part in ("-m", module)]
        of_format = [] if format_ == "markdown" else ["--format", format_]
        if format_ == "prometheus":
            of_format += ["--stuck-for", write_span(stuck_for)]
        renewing = [*context.command_path.split(), *of_format, *named, *paths, "--output", check]
        how = f"To write it: {shlex.join(map(str, renewing))}"
        if difference := _difference(check, text, how):
            click.echo(difference, nl=False)
            click.echo(f"{check} is out of date. {how}", err=True)
            context.exit(NO)


def as_json(finalizers: Finalizers) -> str:
    """The inventory for programs, with the keys as Kubernetes writes them."""
    entries = [
        {_camel_case(key): value for key, value in asdict(entry).items()}
        for entry in finalizers.inventory()
    ]
    return json.dumps({"operator": finalizers.name, "finalizers": entries}, indent=2) + "\n"


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def as_markdown(finalizers: Finalizers) -> str:
    """The inventory for people."""
    return "\n\n".join([f"# Finalizers of {finalizers.name}", *_paragraphs(finalizers)]) + "\n"


def _paragraphs(finalizers: Finalizers) -> Iterator[str]:
    entries = finalizers.inventory()
    if finalizers.watches_only and not entries:
        yield "This operator only watches: no handler has a finalizer put on any object."
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
    is_used = any(entry.name == finalizers.name for entry in entries)
    yield (
        f"`{finalizers.name}` is the operator's own: Kopf puts it on and takes it off."
        + ("" if is_used else " No handler has it put on any object.")
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
    if not is_used:
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


def _difference(file: Path, text: str, how: str) -> str:
    try:
        before = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(f"{file} does not exist. {how}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from None
    old, new = (one.splitlines(keepends=True) for one in (before, text))
    return "".join(difflib.unified_diff(old, new, fromfile=str(file), tofile="the operator"))


def write(file: Path, text: str) -> None:
    """Write a file whole or not at all: what was there stays until all of the new one is stored."""
    # A link stays one; and what is no file, as /dev/stdout, cannot be replaced by one.
    file = Path(os.path.realpath(file))
    is_special = file.exists() and not file.is_file()
    new = file if is_special else file.with_name(f".{file.name}.{os.getpid()}")
    try:
        try:
            new.write_text(text, encoding="utf-8")
            if not is_special:
                if file.exists():
                    shutil.copymode(file, new)
                new.replace(file)
        finally:
            if not is_special:
                new.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from None
