"""`kopf-finalizers release`: one finalizer off the objects named, and no other."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import click

from .._bodies import finalizers_of
from .._cluster.access import Cluster, ClusterError, RefusedError
from .._cluster.ages import read_time, write_span
from .._cluster.changing import Releasing, Target, What, kept
from .._cluster.discovery import Resource, Served, Unseen, discover
from .._cluster.listing import Metadata, Progress, Scope, look_at_all, metadata_of
from .._cluster.records import prefixes_of
from .._cluster.whose import Operator, Waiting, Whose, owner_of
from .._errors import ConfigurationError
from .._names import check_finalizer
from .changes import change_asked, counted
from .clusters import (
    UNSEEN,
    Span,
    change_options,
    cluster_options,
    connected,
    one_line,
    operator_from,
    operator_options,
    say_unseen,
    scope_of,
    targets_of,
)
from .errors import FAILED, CommandError
from .terminal import Bar

_SHOWN = 20


@click.command()
@click.option("--all-stuck", metavar="RESOURCE",
              help="Off all objects of this resource that are being deleted.")  # fmt: skip
@click.option("--stuck-for", type=Span(), default="0s",
              help="With --all-stuck, leave out what is held for less: 10m.")  # fmt: skip
@click.option("--alive", is_flag=True, help="Off objects, too, that are not being deleted.")
@change_options
@operator_options
@cluster_options
@click.argument("finalizer")
@click.argument("target", nargs=-1)
def release(
    finalizer: str,
    target: tuple[str, ...],
    all_stuck: str | None,
    stuck_for: timedelta,
    dry_run: str,
    files: tuple[str, ...],
    modules: tuple[str, ...],
    namespace: str | None,
    selector: str | None,
    context: str | None,
    kubeconfig: str | None,
    alive: bool,  # noqa: FBT001 - click passes keywords
    yes: bool,  # noqa: FBT001
    verbose: bool,  # noqa: FBT001
    all_namespaces: bool,  # noqa: FBT001
) -> None:
    """Take one FINALIZER off objects, and leave everyone else's as they are.

    What it waits for is then not done. TARGET is RESOURCE/NAME… or RESOURCE NAME…; --all-stuck
    RESOURCE is all objects of it that are being deleted and held by the finalizer, in the namespace
    (-n, else the context's) or in all (-A). What would be done is printed, and asked about.

    The exit code is 0 if the finalizer is on none of the objects any more, 1 if it is on any, and 2
    if not all could be seen, it was interrupted, or nothing was done.
    """
    try:
        check_finalizer(finalizer)
    except ConfigurationError as error:
        raise CommandError(f"{error} One finalizer is released at a time.") from None
    if bool(target) == bool(all_stuck):
        raise click.UsageError("Name the objects, as RESOURCE/NAME, or give --all-stuck RESOURCE.")
    if all_stuck and alive:
        raise click.UsageError("--alive is for objects that are named, not for --all-stuck.")
    scope = scope_of(namespace, selector, all_namespaces=all_namespaces)
    with one_line(), connected(kubeconfig, context) as cluster:
        served = discover(cluster)
        operator = operator_from(files, modules, served, verbose=verbose)
        if not all_namespaces and not namespace:
            scope = Scope(cluster.namespace, selector)
        unseen = list[Unseen]()
        if all_stuck:
            resource = served.named(all_stuck)
            found = _stuck(cluster, resource, scope, finalizer, stuck_for, unseen)
        else:
            found = _named(cluster, served, targets_of(target), scope, unseen)
        code = _released(cluster, found, finalizer, operator, alive=alive, yes=yes, dry_run=dry_run)
        say_unseen(unseen)
        sys.exit(UNSEEN if unseen else code)


# Which objects


def _named(
    cluster: Cluster,
    served: Served,
    targets: Sequence[tuple[str, str]],
    scope: Scope,
    unseen: list[Unseen],
) -> list[Target]:
    found = list[Target]()
    for name_of_resource, name in targets:
        resource = served.named(name_of_resource)
        inside = f" in {scope.namespace}" if resource.namespaced else ""
        where = f"{resource.name}/{name}{inside}"
        if resource.namespaced and scope.namespace is None:
            raise ClusterError(f"{where}: with -A nobody knows which one is meant; give -n.")
        try:
            metadata = metadata_of(cluster, resource, scope.namespace, name)
        except RefusedError as error:
            if error.status == 404:
                click.echo(f"{where}: {What.GONE}")
            else:
                unseen.append(Unseen.of(where, error))
        else:
            found.append(Target(resource, metadata))
    return found


class _Stuck:
    """The objects of one resource that are being deleted and held by one finalizer."""

    def __init__(self, finalizer: str, now: datetime, stuck_for: timedelta) -> None:
        self.found = list[Metadata]()
        self._finalizer = finalizer
        self._now = now
        self._stuck_for = stuck_for

    def look(self, items: Iterable[Metadata]) -> None:
        for metadata in items:
            since = read_time(metadata.get("deletionTimestamp"))
            is_stuck = since is not None and self._now - since >= self._stuck_for
            if is_stuck and self._finalizer in finalizers_of({"metadata": metadata}):
                self.found.append(kept(metadata))


def _stuck(
    cluster: Cluster,
    resource: Resource,
    scope: Scope,
    finalizer: str,
    stuck_for: timedelta,
    unseen: list[Unseen],
) -> list[Target]:
    if not scope.holds(resource):
        scope = Scope(None, scope.selector)
    now, bar = datetime.now(UTC), Bar("Looking")
    try:
        ((_, account),) = look_at_all(
            cluster,
            [resource],
            scope,
            lambda _: _Stuck(finalizer, now, stuck_for),
            Progress(bar.show),
        )
    finally:
        bar.clear()
    if isinstance(account, Unseen):
        unseen.append(account)
        return []
    return [Target(resource, metadata) for metadata in account.found]


# What is done


def _released(
    cluster: Cluster,
    found: Sequence[Target],
    finalizer: str,
    operator: Operator | None,
    *,
    alive: bool,
    yes: bool,
    dry_run: str,
) -> int:
    """Say it, ask, do it; the exit code."""
    meant, left = list[Target](), 0
    for one in found:
        if finalizer not in one.finalizers:
            click.echo(f"{one.name}: {What.NOT_THERE}")
        elif not one.is_being_deleted and not alive:
            left += 1
            click.echo(f"{one.name}: {What.LEFT}: it is alive; --alive releases it all the same")
        else:
            meant.append(one)
    if not meant:
        click.echo("There is nothing to release.", err=True)
        return int(bool(left))
    _say(meant, finalizer, operator, cluster.context)
    releasing = Releasing(cluster, dry_run=dry_run == "server")
    done = change_asked(
        meant,
        f"Take {finalizer} off {counted(meant)}?",
        lambda one, stop: releasing.release(one, finalizer, stop),
        dry_run=dry_run,
        yes=yes,
    )
    if done is None:
        return FAILED
    return int(left > 0 or not all(what.is_well for what in done))


def _say(meant: Sequence[Target], finalizer: str, operator: Operator | None, context: str) -> None:
    """What would be done, and what then stays undone."""
    now = datetime.now(UTC)
    click.echo(f"In {context}, this takes {finalizer}, and no other, off:", err=True)
    for one in meant[:_SHOWN]:
        since = read_time(one.metadata.get("deletionTimestamp"))
        state = f"being deleted for {write_span(now - since)}" if since else "alive"
        click.echo(f"  {one.name}, {state}", err=True)
    if len(meant) > _SHOWN:
        click.echo(f"  and {len(meant) - _SHOWN:,} more", err=True)
    for resource in dict.fromkeys(one.resource for one in meant):
        for line in _undone(resource, meant, finalizer, operator):
            click.echo(line, err=True)


def _undone(
    resource: Resource, meant: Sequence[Target], finalizer: str, operator: Operator | None
) -> list[str]:
    key = (resource.group, resource.plural)
    if operator is None or not operator.whose(finalizer, key).is_own:
        first = next(one for one in meant if one.resource == resource)
        owner = owner_of(finalizer, prefixes_of(first.metadata), None, Whose.OTHER)
        words = owner or "not known; --operator FILE tells what its own operator says"
        return [f"Its owner on {resource.name}: {words}."]
    waiting = operator.waiting(finalizer, key)
    if finalizer == operator.name:
        # Without the operator's own finalizer Kopf calls no cleanup any more.
        names = operator.served.get(key, {})
        waiting = tuple(dict.fromkeys(one for name in names for one in names[name]))
    if not waiting:
        return [f"No handler of {operator.name} serves it on {resource.name}: nothing is undone."]
    lines = [f"On {resource.name} nobody waits any more for:"]
    # Several handlers may wait for one cleanup: what it is for is the cleanup's own to say.
    ends = dict[tuple[str, str], Waiting]()
    for one in sorted(waiting, key=lambda one: one.handler not in one.waits_for):
        ends.setdefault((one.waits_for, one.leaves), one)
    for one in ends.values():
        what = f" ({one.purpose})" if one.purpose else ""
        behind = f"; what stays behind: {one.leaves}" if one.leaves else ""
        lines.append(f"  {one.waits_for}{what}{behind}")
    return lines
