"""`kopf-finalizers uninstall`: an operator out of a cluster, so that nothing hangs afterwards."""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import click

from .._cluster.access import Cluster
from .._cluster.changing import Change, Target
from .._cluster.discovery import Resource, Served, Unseen, discover
from .._cluster.holders import Question, Tallies, rows_of
from .._cluster.hooks import helm_hook
from .._cluster.listing import Progress, Scope
from .._cluster.uninstalling import (
    Own,
    Standing,
    Uninstalling,
    remaining,
    resources_of,
    standings,
)
from .changes import change_asked, counted
from .clusters import (
    UNSEEN,
    Span,
    change_options,
    cluster_options,
    connected,
    modules_options,
    one_line,
    operator_from,
    resources_named,
    say_unseen,
    scope_of,
)
from .errors import FAILED, NO, YES, CommandError
from .holders import called, print_rows
from .terminal import Bar, table

POLL = 1.0
"""How long to wait before looking again, in seconds."""


@click.command()
@click.option("--delete", "way", flag_value="--delete",
              help="Delete the objects while the operator runs, and wait for them.")  # fmt: skip
@click.option("--release", "way", flag_value="--release",
              help="Take the operator's finalizers off objects that live on.")  # fmt: skip
@click.option("--annotations", is_flag=True, help="With --release, its annotations as well.")
@click.option("--resource", "named", multiple=True, metavar="RESOURCE",
              help="Only this one of the operator's resources.")  # fmt: skip
@click.option("--timeout", type=Span(), default="10m", show_default=True,
              help="With --delete, how long to wait.")  # fmt: skip
@click.option("--settle", type=Span(), default="5s", show_default=True,
              help="With --release, how long to look whether names come back.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["table", "helm-hook"]), default="table",
              help="Print a pre-delete hook for a chart in place of doing it.")  # fmt: skip
@change_options
@modules_options
@cluster_options
@click.argument("files", nargs=-1)
def uninstall(
    files: tuple[str, ...],
    modules: tuple[str, ...],
    way: str | None,
    named: tuple[str, ...],
    timeout: timedelta,
    settle: timedelta,
    format_: str,
    dry_run: str,
    namespace: str | None,
    selector: str | None,
    context: str | None,
    kubeconfig: str | None,
    annotations: bool,  # noqa: FBT001 - click passes keywords
    yes: bool,  # noqa: FBT001
    verbose: bool,  # noqa: FBT001
    all_namespaces: bool,  # noqa: FBT001
) -> None:
    """Take an operator's finalizers out of a cluster, by what its own FILES say.

    Without --delete and --release the plan is printed: how the objects stand that its handlers are
    for. --delete asks for their deletion while the operator runs, waits, and says who holds what is
    left. --release takes its finalizers off objects that are alive, looks again, and says if names
    come back, since the operator is still running then. Objects in all namespaces are meant, unless
    -n is given.

    The exit code is 0 if nothing of the operator's is left, 1 if something is, and 2 if not all
    could be seen, it was interrupted, or nothing was done.
    """
    if not files and not modules:
        raise CommandError("Name the operator's files, or its modules with -m, as in kopf run.")
    if annotations and way != "--release":
        raise click.UsageError("--annotations goes with --release.")
    scope = scope_of(namespace, selector, all_namespaces=all_namespaces)
    with one_line(), connected(kubeconfig, context) as cluster:
        served = discover(cluster)
        operator = operator_from(files, modules, served, verbose=verbose)
        assert operator is not None  # noqa: S101 - there are files
        resources = _resources(served, resources_of(operator, served), named)
        if format_ == "helm-hook":
            name = operator.name.rpartition("/")[2]
            command = [*files, *(part for one in modules for part in ("-m", one))]
            command += [way or "--delete", *(["--annotations"] if annotations else [])]
            command += ["-n", namespace] if namespace else []
            command += [part for one in named for part in ("--resource", one)]
            if way != "--release" and not named:
                resources = [one for one in resources if (one.group, one.plural) in operator.named]
                resources = [one for one in resources if not one.is_kubernetes_own]
            hook = helm_hook(name, resources, command, way or "--delete", namespace)
            click.echo(hook, nl=False)
            return
        own = Own(operator, with_annotations=annotations)
        work = _Work(cluster, resources, scope, own, list(served.unseen), dry_run=dry_run, yes=yes)
        if way == "--delete":
            code = work.delete(timeout, only=bool(named))
        elif way == "--release":
            code = work.release(settle)
        else:
            found = work.look()
            work.print_plan(found)
            code = NO if any(one.with_own for one in found) else YES
        say_unseen(work.unseen)
        sys.exit(UNSEEN if work.unseen else code)


def _resources(served: Served, handled: list[Resource], named: Sequence[str]) -> list[Resource]:
    if not named:
        return handled
    keys = {(one.group, one.plural) for one in resources_named(served, named)}
    others = keys - {(one.group, one.plural) for one in handled}
    if others:
        told = ", ".join(".".join(filter(None, [plural, group])) for group, plural in others)
        raise CommandError(f"No handler of the operator is for {told}.")
    return [one for one in handled if (one.group, one.plural) in keys]


class _Work:
    """One way or the other, on the objects that the options mean."""

    def __init__(
        self,
        cluster: Cluster,
        resources: Sequence[Resource],
        scope: Scope,
        own: Own,
        unseen: list[Unseen],
        *,
        dry_run: str,
        yes: bool,
    ) -> None:
        self.unseen = unseen
        self._cluster = cluster
        self._resources = resources
        self._scope = scope
        self._own = own
        self._dry_run = dry_run
        self._yes = yes
        self._uninstalling = Uninstalling(cluster, own, dry_run=dry_run == "server")

    def look(self, *, all_objects: bool = False) -> list[Standing]:
        """How the objects stand; what cannot be seen is noted once."""
        bar = Bar("Looking")
        try:
            found, unseen = standings(
                self._cluster,
                self._resources,
                self._scope,
                self._own,
                Progress(bar.show),
                all_objects=all_objects,
            )
        finally:
            bar.clear()
        self.unseen += [one for one in unseen if one not in self.unseen]
        return found

    def print_plan(self, found: Sequence[Standing]) -> None:
        """For each resource, how its objects stand."""
        name = self._own.operator.name
        if not self._resources:
            click.echo(f"The cluster serves nothing that {name} handles.")
            return
        click.echo(f"{name} in {self._cluster.context}:")
        head = ("RESOURCE", "ALIVE", "BEING DELETED", "WITH OWN FINALIZERS", "ONLY WITH OTHERS'")
        rows = list[list[str]]()
        for one in found:
            counts = (one.alive, one.being_deleted, one.with_own, one.with_others)
            rows.append([one.resource.name, *map(str, counts)])
        click.echo(table(head, rows), nl=False)

    def release(self, settle: timedelta) -> int:
        """Take what is its own off objects that are alive, and look whether it comes back."""
        question = f"Take what is {self._own.operator.name}'s own off objects that are alive?"
        return self._carry_out(
            "release", self.look(), question, self._uninstalling.release,
            lambda _: self._looked_again(settle),
        )  # fmt: skip

    def _looked_again(self, settle: timedelta) -> int:
        """Whether what was taken off stays off."""
        click.echo("Looking whether it stays so.", err=True)
        end = time.monotonic() + settle.total_seconds()
        while True:
            found = [target for one in self.look() for target in one.targets]
            alive = [one for one in found if not one.is_being_deleted]
            if alive or time.monotonic() >= end:
                break
            time.sleep(POLL)
        if alive:
            click.echo(
                f"{self._own.operator.name} is on {len(alive):,} objects that are alive,"
                f" {alive[0].name} for one: where it was taken off and came back, the operator is"
                " still running. Stop it, and run this again.",
                err=True,
            )
        elif found:
            click.echo(
                f"It is on {len(found):,} objects that are being deleted, {found[0].name} for one:"
                " their cleanups are due. Let the operator do them, or release them by hand.",
                err=True,
            )
        else:
            click.echo("Nothing of it is left.", err=True)
        return NO if found else YES

    def delete(self, timeout: timedelta, *, only: bool) -> int:
        """Delete all objects, and wait until they are gone."""
        if not only:
            self._leave_what_is_not_its_own()
        found = self.look(all_objects=True)
        count = counted([target for one in found for target in one.targets])
        question = f"Delete {count}, while the operator runs?"
        return self._carry_out(
            "delete", found, question, self._uninstalling.delete,
            lambda targets: self._waited(targets, timeout),
        )  # fmt: skip

    def _leave_what_is_not_its_own(self) -> None:
        """Only the objects of custom resources that a handler names may go without being named."""
        meant = list[Resource]()
        for one in self._resources:
            if one.is_kubernetes_own:
                why = "it is Kubernetes' own"
            elif (one.group, one.plural) not in self._own.operator.named:
                why = "no handler names it"
            else:
                meant.append(one)
                continue
            click.echo(
                f"{one.name} is left as it is: {why}, so its objects may be anybody's. --resource"
                f" {one.name} deletes them all the same.",
                err=True,
            )
        self._resources = meant

    def _waited(self, targets: Sequence[Target], timeout: timedelta) -> int:
        """Until they are gone, or too long."""
        end = time.monotonic() + timeout.total_seconds()
        while True:
            left = remaining(self.look(all_objects=True), targets)
            if not left or time.monotonic() >= end:
                break
            time.sleep(POLL)
        if not left:
            click.echo(f"All {len(targets):,} objects are gone.", err=True)
            return YES
        click.echo(f"{len(left):,} of {len(targets):,} objects are not gone. They are held by:")
        accounts = dict[Resource, Tallies]()
        question = Question(datetime.now(UTC), operator=self._own.operator)
        for one in left:
            tallies = accounts.setdefault(one.resource, Tallies(one.resource, question))
            tallies.look([one.metadata])
        print_rows(rows_of(accounts.values()), question, wide=False)
        # The one that is held longest, and by most.
        one = min(
            left,
            key=lambda one: (one.metadata.get("deletionTimestamp", "never"), -len(one.finalizers)),
        )
        space = one.metadata.get("namespace")
        named = f"{one.resource.name}/{one.metadata['name']}" + (f" -n {space}" if space else "")
        click.echo(f"What one of them waits for: {called()} holders {named}", err=True)
        return NO

    def _carry_out(
        self,
        verb: str,
        found: Sequence[Standing],
        question: str,
        change: Change,
        then: Callable[[Sequence[Target]], int],
    ) -> int:
        """Show the plan, ask, change what it means, and see what came of it; the exit code."""
        self.print_plan(found)
        targets = [target for one in found for target in one.targets]
        if not targets:
            click.echo(f"There is nothing to {verb}.", err=True)
            return YES
        done = change_asked(targets, question, change, dry_run=self._dry_run, yes=self._yes)
        if done is None:
            return FAILED
        return then(targets) if self._dry_run == "none" else YES
