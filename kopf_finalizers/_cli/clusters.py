"""What the commands for a cluster have in common: options that mean what they mean in kubectl."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from .._cluster.access import Cluster, ClusterError
from .._cluster.ages import read_span
from .._cluster.discovery import Resource, Served, Unseen
from .._cluster.listing import Scope
from .errors import FAILED, CommandError

if TYPE_CHECKING:
    from .._cluster.whose import Operator

    _SpanType = click.ParamType[timedelta]
else:
    _SpanType = click.ParamType  # which takes no argument before click 8.4

UNSEEN = FAILED
"""The exit code where not all could be seen."""


class Span(_SpanType):
    """`10m`, `1h30m`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        try:
            return value if isinstance(value, timedelta) else read_span(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_CLUSTER = [
    click.option("-n", "--namespace", help="Only objects in this namespace."),
    click.option("-A", "--all-namespaces", is_flag=True, help="Objects in all namespaces."),
    click.option("-l", "--selector", help="Only objects with these labels, as in kubectl."),
    click.option("--context", help="The context in the kubeconfig; else the current one."),
    click.option("--kubeconfig", help="The kubeconfig; else as kubectl finds it."),
]

_OPERATOR = [
    click.option(
        "-m", "--module", "modules", multiple=True, help="An operator's module, as in kopf run."
    ),
    click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an operator that"
                 " cannot be loaded."),
]  # fmt: skip


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-n`, `-A`, `-l`, `--context`, `--kubeconfig`."""
    for option in reversed(_CLUSTER):
        command = option(command)
    return command


def operator_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--operator`, `-m`, `-v`."""
    option = click.option("--operator", "files", multiple=True,
                          help="An operator's file, as in kopf run.")  # fmt: skip
    for one in reversed([option, *_OPERATOR]):
        command = one(command)
    return command


_CHANGES = [
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option(
        "--dry-run",
        type=click.Choice(["none", "server", "client"]),
        default="none",
        help="Have the API server answer as if (server), or only say what would be done (client).",
    ),
]


def modules_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-m` and `-v`, for a command whose arguments are an operator's files."""
    for one in reversed(_OPERATOR):
        command = one(command)
    return command


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--yes` and `--dry-run`."""
    for one in reversed(_CHANGES):
        command = one(command)
    return command


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """What goes wrong between here and the cluster, as one clear line."""
    try:
        yield
    except ClusterError as error:
        raise CommandError(str(error)) from None


def scope_of(namespace: str | None, selector: str | None, *, all_namespaces: bool) -> Scope:
    """Which objects are meant.

    Raises:
        click.UsageError: The options contradict each other.
    """
    if namespace and all_namespaces:
        raise click.UsageError("-n and -A contradict each other: give one of them.")
    return Scope(namespace=namespace, selector=selector)


def operator_from(
    files: Sequence[str], modules: Sequence[str], served: Served | None, *, verbose: bool
) -> "Operator | None":
    """The operator that was asked about, if one was."""
    if not files and not modules:
        return None
    # Kopf is imported here, and not for those who have asked about no operator.
    from .._cluster.operators import operator_of
    from .loading import finalizers_of

    return operator_of(finalizers_of(tuple(files), tuple(modules), verbose=verbose), served)


def resources_named(served: Served, names: Sequence[str]) -> list[Resource]:
    """The resources that arguments name, each once; a comma joins several, as in kubectl."""
    found = [served.named(one) for name in names for one in name.split(",") if one]
    return list(dict.fromkeys(found))


def targets_of(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """`RESOURCE/NAME …` or `RESOURCE NAME …`, as kubectl takes them.

    Raises:
        click.UsageError: It is a mixture of both.
    """
    with_slash = [one for one in arguments if "/" in one]
    if with_slash and len(with_slash) != len(arguments):
        raise click.UsageError(
            "Name objects as RESOURCE/NAME, all of them, or as RESOURCE NAME…, as for kubectl."
        )
    if with_slash:
        pairs = [
            (resource, name) for resource, _, name in (one.partition("/") for one in arguments)
        ]
    else:
        pairs = [(arguments[0], name) for name in arguments[1:]]
    for resource, name in pairs:
        if not resource or not name or "/" in name:
            raise click.UsageError(f'"{resource}/{name}" names no object: write RESOURCE/NAME.')
    return list(dict.fromkeys(pairs))


def say_unseen(unseen: Sequence[Unseen]) -> None:
    """Name on stderr what could not be looked at, those with the same reason together."""
    by_reason = dict[str, list[str]]()
    for one in unseen:
        by_reason.setdefault(_reason(one), []).append(one.what)
    for reason, names in by_reason.items():
        click.echo(f"Not seen: {', '.join(sorted(names))} ({reason})", err=True)


def _reason(one: Unseen) -> str:
    """The words are of one resource each where something is forbidden."""
    return "403 Forbidden: your user may not list them here" if one.status == 403 else one.why


def unseen_as_json(unseen: Sequence[Unseen]) -> list[dict[str, Any]]:
    """The documented form."""
    return [{"what": one.what, "why": one.why, "status": one.status} for one in unseen]


def connected(kubeconfig: str | None, context: str | None) -> Cluster:
    """The cluster that the options name."""
    return Cluster(kubeconfig=kubeconfig, context=context)
