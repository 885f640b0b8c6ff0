"""`kopf-finalizers holders`: who holds the objects that are being deleted. It never writes."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import click

from .._cluster.access import Cluster, ClusterError, RefusedError
from .._cluster.ages import write_span, write_time
from .._cluster.discovery import Served, Unseen, discover
from .._cluster.holders import Question, Report, Row, Tallies, report_of, reports_of_file, rows_of
from .._cluster.listing import Progress, Scope, look_at_all, metadata_of
from .._cluster.records import Record
from .._cluster.whose import Operator
from .clusters import (
    UNSEEN,
    Span,
    cluster_options,
    connected,
    one_line,
    operator_from,
    operator_options,
    resources_named,
    say_unseen,
    scope_of,
    targets_of,
    unseen_as_json,
)
from .errors import CommandError
from .terminal import Bar, table

_ONLY = ["served", "former", "orphan", "same domain", "other", "former records", "own records only"]


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "wide", "json", "name"]),
              default="table", help="How to print it.")  # fmt: skip
@click.option(
    "--stuck-for", type=Span(), default="0s", help="Leave out what is held for less: 10m."
)
@click.option("--only", multiple=True, type=click.Choice(_ONLY), metavar="WHOSE",
              help=f"With an operator, only what is: {', '.join(_ONLY)}.")  # fmt: skip
@click.option("-f", "--filename", "file", type=click.File("r"),
              help="Read what kubectl get -o json printed; - is the standard input.")  # fmt: skip
@operator_options
@cluster_options
@click.argument("target", nargs=-1)
def holders(
    target: tuple[str, ...],
    output: str,
    stuck_for: timedelta,
    only: tuple[str, ...],
    file: IO[str] | None,
    files: tuple[str, ...],
    modules: tuple[str, ...],
    namespace: str | None,
    selector: str | None,
    context: str | None,
    kubeconfig: str | None,
    verbose: bool,  # noqa: FBT001 - click passes keywords
    all_namespaces: bool,  # noqa: FBT001
) -> None:
    """Say who holds objects that are being deleted, and what they wait for.

    Without a TARGET all objects of the cluster are looked at, or those in a namespace (-n), and
    counted by finalizer; RESOURCE names the resources to look at. RESOURCE/NAME or RESOURCE NAME is
    one object, with all that Kopf operators have noted on it. Nothing is ever written.

    The exit code is 0 if nothing is held, 1 if something is (with an operator also if an object has
    a former name or an orphan), and 2 if not all could be seen: what, and why, is said.
    """
    if only and not (files or modules):
        raise click.UsageError("--only is about an operator's names: give --operator or -m.")
    scope = scope_of(namespace, selector, all_namespaces=all_namespaces)
    question = Question(datetime.now(UTC), stuck_for, only=frozenset(only))
    with one_line():
        if file is not None:
            if target:
                raise click.UsageError("-f is in place of a TARGET: give one of them.")
            operator = operator_from(files, modules, None, verbose=verbose)
            _tell_reports(reports_of_file(_read(file), operator), [], output, question.now)
        with connected(kubeconfig, context) as cluster:
            served = discover(cluster)
            operator = operator_from(files, modules, served, verbose=verbose)
            if any("/" in one for one in target) or len(target) > 1:
                found, unseen = _reports(cluster, served, targets_of(target), scope, operator)
                _tell_reports(found, unseen, output, question.now)
            question = replace(question, operator=operator, with_objects=output == "name")
            _look_at_all(cluster, served, target, scope, question, output)


# One object, or a few


def _reports(
    cluster: Cluster,
    served: Served,
    targets: Sequence[tuple[str, str]],
    scope: Scope,
    operator: Operator | None,
) -> tuple[list[Report], list[Unseen]]:
    found, unseen = list[Report](), list[Unseen]()
    for name_of_resource, name in targets:
        resource = served.named(name_of_resource)
        namespace = scope.namespace or cluster.namespace
        where = f"{resource.name}/{name}" + (f" in {namespace}" if resource.namespaced else "")
        try:
            metadata = metadata_of(cluster, resource, namespace, name)
        except RefusedError as error:
            if error.status == 404:
                raise ClusterError(f"{where} is not there: {error.words}") from None
            unseen.append(Unseen.of(where, error))
        else:
            key = (resource.group, resource.plural)
            found.append(report_of(resource.name, metadata, operator, key))
    return found, unseen


def _read(file: IO[str]) -> Any:
    try:
        return json.load(file)
    except ValueError as error:
        raise CommandError(
            f"{file.name} is no JSON ({error}): have kubectl print it with --output json."
        ) from None


def _tell_reports(
    reports: Sequence[Report], unseen: Sequence[Unseen], output: str, now: datetime
) -> None:
    held = [one for one in reports if one.is_held]
    if output == "json":
        told = {
            "objects": [one.as_json(now) for one in reports],
            "unseen": unseen_as_json(unseen),
        }
        click.echo(json.dumps(told, indent=2))
    elif output == "name":
        for one in held:
            click.echo(_one_name(one.resource, one.metadata, with_namespace=False))
    else:
        click.echo("\n".join(_paragraphs(one, now) for one in reports), nl=False)
    say_unseen(unseen)
    sys.exit(UNSEEN if unseen else int(bool(held)))


def _paragraphs(report: Report, now: datetime) -> str:
    """One object, for a person."""
    where = f" in {namespace}" if (namespace := report.metadata.get("namespace")) else ""
    text = f"{report.resource}/{report.metadata.get('name')}{where} "
    if report.since is None:
        text += "is alive\n"
    elif report.since > now:
        text += f"is being deleted, with {write_span(report.since - now)} left to end by itself\n"
    else:
        text += f"is being deleted for {write_span(now - report.since)}, since"
        text += f" {write_time(report.since)}\n"
    if not report.holders:
        text += "no finalizer is on it\n"
        if report.resource == "namespaces" and report.since:
            text += (
                "a namespace goes when all that is in it has gone:"
                f" {called()} holders -n {report.metadata.get('name')}\n"
            )
        return text
    for holder in report.holders:
        text += f"\n{holder.name}\n"
        domain = holder.name.partition("/")[0] if "/" in holder.name else "nobody, by its name"
        text += f"  owner: {holder.owner or f'not known; whom to ask: {domain}'}\n"
        text += "".join(f"  waits for: {one}\n" for one in holder.waits_for)
        text += "".join(f"  is for: {one}\n" for one in holder.purposes)
        text += "".join(f"  stays behind without it: {one}\n" for one in holder.leaves)
    for prefix in dict.fromkeys(one.prefix for one in report.records):
        records = [one for one in report.records if one.prefix == prefix]
        text += f"\nWhat Kopf has noted under {prefix}:\n" + _table_of(records, now)
    return text


def _table_of(records: Sequence[Record], now: datetime) -> str:
    children = {child for one in records for child in one.subhandlers}
    rows = []
    for one in records:
        indent = "  " if one.handler in children else ""
        following = "-"
        if not one.success and not one.failure and one.delayed:
            due = one.delayed <= now
            following = "now" if due else f"in {write_span(one.delayed - now)}"
        rows.append((
            f"{indent}{one.handler}", one.purpose or "-", str(one.retries), one.state(now),
            following, " ".join((one.message or "-").split()),
        ))  # fmt: skip
    return table(("HANDLER", "FOR", "ATTEMPTS", "STATE", "NEXT", "LAST MESSAGE"), rows)


def called() -> str:
    """The command, as it was called."""
    return click.get_current_context().find_root().info_name or "kopf-finalizers"


# All of them


def _look_at_all(
    cluster: Cluster,
    served: Served,
    names: Sequence[str],
    scope: Scope,
    question: Question,
    output: str,
) -> None:
    unseen = list[Unseen]()
    if names:
        resources = resources_named(served, names)
    else:
        resources = served.listed()
        unseen += [*served.unseen, *served.without_list()]
    bar, accounts = Bar("Looking"), list[Tallies]()
    try:
        looked = look_at_all(
            cluster, resources, scope, lambda one: Tallies(one, question), Progress(bar.show)
        )
        for resource, account in looked:
            if isinstance(account, Unseen):
                unseen.append(account)
                continue
            if output == "name":
                bar.clear()
                _print_names(resource.name, account, scope)
            accounts.append(account)
    finally:
        bar.clear()
    _tell_rows(rows_of(accounts), unseen, output, question)


def _print_names(resource: str, account: Tallies, scope: Scope) -> None:
    """Each object once: as kubectl names it, with the namespace where it is not known."""
    lines = {
        _one_name(resource, one, with_namespace=scope.namespace is None): None
        for tally in account.by_name.values()
        for one in tally.objects
    }
    for line in lines:
        click.echo(line)
    for tally in account.by_name.values():
        tally.objects.clear()


def _one_name(resource: str, metadata: Any, *, with_namespace: bool) -> str:
    namespace = metadata.get("namespace")
    inside = f" --namespace {namespace}" if namespace and with_namespace else ""
    return f"{resource}/{metadata.get('name')}{inside}"


def _tell_rows(
    rows: Sequence[Row], unseen: Sequence[Unseen], output: str, question: Question
) -> None:
    if output == "json":
        told = {"finalizers": [one.as_json() for one in rows], "unseen": unseen_as_json(unseen)}
        click.echo(json.dumps(told, indent=2))
    elif output != "name":
        if not rows:
            click.echo("Nothing that could be seen is held." if unseen else "Nothing is held.")
        else:
            print_rows(rows, question, wide=output == "wide")
    say_unseen(unseen)
    sys.exit(UNSEEN if unseen else int(_matters(rows, question)))


def _matters(rows: Iterable[Row], question: Question) -> bool:
    """Whether somebody has to look."""
    if question.only:
        return any(rows)
    return any(row.being_deleted or row.whose in ("former", "orphan") for row in rows)


def print_rows(rows: Sequence[Row], question: Question, *, wide: bool) -> None:
    """A table of finalizers, each with the resources that it is on."""
    with_operator = question.operator is not None
    head = [
        "FINALIZER",
        *(["WHOSE", "ALIVE"] if with_operator else []),
        "HELD",
        "OLDEST",
        "RESOURCES",
    ]
    head += ["OLDEST OBJECT"] if wide else []
    lines = []
    for row in rows:
        line = [row.name]
        line += [row.whose, str(row.alive)] if with_operator else []
        line += [str(row.being_deleted)]
        line += [write_span(question.now - row.oldest) if row.oldest else "-"]
        line += [", ".join(sorted(row.by_resource))]
        lines.append([*line, *([row.example] if wide else [])])
    click.echo(table(head, lines), nl=False)
