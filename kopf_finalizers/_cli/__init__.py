"""`kopf-finalizers`: what finalizers an operator uses, and which names an identity has.

It is the one module that needs click, which Kopf's own command brings.
"""

import contextlib
import difflib
import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import click
import kopf

from .._errors import ConfigurationError
from .._finalizers import Finalizers, configured_in
from .._inventory import InventoryEntry, release_command
from .._names import OperatorIdentity


class _Error(click.ClickException):
    """One line; the exit code is the one of wrong usage, since 1 means "out of date"."""

    exit_code = 2


@click.group(name="kopf-finalizers")
@click.version_option(package_name="kopf-finalizers", prog_name="kopf-finalizers")
def main() -> None:
    """Every Kopf operator its own finalizer."""


@main.command()
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
        raise _Error("Name the operator's files, or its modules with -m, as in kopf run.")
    finalizers = _finalizers_of(paths, modules, verbose=verbose)
    text = {"markdown": as_markdown, "json": as_json}[format_](finalizers)
    if file is None:
        click.echo(text, nl=False)
    elif difference := _difference(file, text):
        click.echo(difference, nl=False)
        click.echo(f"{file} is out of date.", err=True)
        sys.exit(1)


@main.command()
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


# The operator


def _finalizers_of(
    paths: tuple[str, ...], modules: tuple[str, ...], *, verbose: bool
) -> Finalizers:
    with _registry_of_its_own():
        # What a module prints while it is imported is not part of the document.
        with contextlib.redirect_stdout(sys.stderr):
            _load(paths, modules, verbose=verbose)
        finalizers = configured_in(kopf.get_default_registry())
    if finalizers is None:
        raise _Error(
            f"{', '.join(paths + modules)}: kopf_finalizers.configure() is never called, so this"
            " operator has no finalizers of its own that could be documented. One that makes its"
            " Finalizers itself can print what their inventory() returns."
        )
    return finalizers


@contextlib.contextmanager
def _registry_of_its_own() -> Iterator[None]:
    """A fresh default registry, and `sys.path` put back: nothing of the operator is left behind."""
    registry, path = kopf.get_default_registry(), sys.path[:]
    kopf.set_default_registry(kopf.OperatorRegistry())
    try:
        yield
    finally:
        kopf.set_default_registry(registry)
        sys.path[:] = path


def _load(paths: Iterable[str], modules: Iterable[str], *, verbose: bool) -> None:
    """As `kopf run` does it (1.44 to 1.45), which has no public name: a test compares the two."""
    for index, path in enumerate(paths):
        if not Path(path).is_file():
            raise _Error(f"{path} does not exist, or is no file.")
        with _one_line(path, verbose=verbose):
            _load_file(path, index)
    for module in modules:
        with _one_line(module, verbose=verbose):
            importlib.import_module(module)


def _load_file(path: str, index: int) -> None:
    sys.path.insert(0, str(Path(path).parent.absolute()))
    module_name = f"__kopf_script_{index}__{path}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)


@contextlib.contextmanager
def _one_line(source: str, *, verbose: bool) -> Iterator[None]:
    """What goes wrong in the operator's own code, as one clear line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if verbose:
            traceback.print_exception(error.with_traceback(_own_frames(error)))
        _refuse(source, error, verbose=verbose)


def _own_frames(error: BaseException) -> TracebackType | None:
    """The traceback from where the operator's own code begins, not from how it was loaded."""
    frames = error.__traceback__
    while frames is not None and _loads(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _loads(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")


def _refuse(source: str, error: BaseException, *, verbose: bool) -> NoReturn:
    what = " ".join(str(error).split())
    if not isinstance(error, ConfigurationError):
        what = f"{type(error).__name__}: {what}" if what else type(error).__name__
    hint = "" if verbose else " (the traceback: --verbose)"
    raise _Error(f"{source} cannot be loaded: {what}{hint}") from None


# The document


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
    rows = [("Finalizer", "Objects", "Waits for", "Handler"), ("---",) * 4]
    for entry in entries:
        former = f", the former name of `{entry.former_of}`" if entry.former_of else ""
        handler = f"`{entry.handler}` ({entry.decorator})"
        rows.append((f"`{entry.name}`{former}", entry.resource, entry.waits_for, handler))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


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
        raise _Error(f"{file} does not exist: write it first, without --check.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _Error(f"{file} cannot be read: {error}") from None
    old, new = (one.splitlines(keepends=True) for one in (before, text))
    return "".join(difflib.unified_diff(old, new, fromfile=str(file), tofile="the operator"))
