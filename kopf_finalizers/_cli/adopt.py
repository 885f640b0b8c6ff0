"""`kopf-finalizers adopt`: what an operator has to say to move to names of its own."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

import click
import kopf

from .._adoption.account import Account
from .._adoption.carried import Carried
from .._adoption.looking import carried_by, carried_in, status_fields
from .._adoption.reading import Reading, Said, read
from .._adoption.releases import Release, releases
from .._adoption.sources import NAMES, Line, Source, Span
from .._cluster.discovery import Unseen, discover
from .._cluster.listing import Progress, Scope
from .._cluster.operators import handled_by
from .._errors import ConfigurationError
from .._identity import OperatorIdentity
from .._settings import KOPF_FINALIZER, KOPF_PREFIX
from .clusters import (
    UNSEEN,
    cluster_options,
    connected,
    modules_options,
    one_line,
    say_unseen,
    scope_of,
    unseen_as_json,
)
from .errors import NO, YES, CommandError
from .loading import operator_in
from .terminal import Bar, table


@click.command()
@click.option("--domain", help="A domain that the organisation owns.")
@click.option("--operator", help="What the operator is to be called in the organisation.")
@click.option("--keep", is_flag=True,
              help="With these two, it keeps the finalizer that it has all the same.")  # fmt: skip
@click.option("--shared", is_flag=True,
              help="Another Kopf operator works on these resources with its names.")  # fmt: skip
@click.option("--former", multiple=True, metavar="FINALIZER",
              help="A finalizer that it has had, in place of what its files say.")  # fmt: skip
@click.option("--former-progress-storage", "progress", metavar="PREFIX",
              help="The prefix of its progress, in place of what its files say.")  # fmt: skip
@click.option("--former-diffbase-storage", "diffbase", metavar="PREFIX",
              help="The prefix of its last states, in place of what its files say.")  # fmt: skip
@click.option("-f", "--filename", "file", type=click.File("r"),
              help="Read what kubectl get -o json printed; - is the standard input.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text",
              help="How to print it.")  # fmt: skip
@modules_options
@cluster_options
@click.argument("files", nargs=-1)
def adopt(
    files: tuple[str, ...],
    modules: tuple[str, ...],
    domain: str | None,
    operator: str | None,
    former: tuple[str, ...],
    progress: str | None,
    diffbase: str | None,
    file: IO[str] | None,
    output: str,
    namespace: str | None,
    selector: str | None,
    context: str | None,
    kubeconfig: str | None,
    keep: bool,  # noqa: FBT001 - click passes keywords
    shared: bool,  # noqa: FBT001
    verbose: bool,  # noqa: FBT001
    all_namespaces: bool,  # noqa: FBT001
) -> None:
    """Say how an operator that runs already gets names of its own, by its FILES and its objects.

    It prints which finalizer and which storages the operator has, what its objects carry and whose
    that is, the lines that have to go, and what each release says to configure(). The files are
    loaded as kopf run loads them; of startup handlers the source is read, and none is called.
    Nothing is ever written, and nothing is guessed: what cannot be told is said.

    The exit code is 0 if all releases are printed, 1 if something has to be said first, and 2 if
    not all objects could be seen.
    """
    if not files and not modules:
        raise CommandError("Name the operator's files, or its modules with -m, as in kopf run.")
    scope = scope_of(namespace, selector, all_namespaces=all_namespaces)
    registry, loaded = operator_in(files, modules, verbose=verbose)
    sources = [source for module in loaded if (source := Source.of(module))]
    for source in sources:
        for line in source.identities():
            raise CommandError(
                f"{line} calls kopf_finalizers.configure() already: see where a cluster stands with"
                f" {_called()} holders --operator {line.file}"
            )
    reading = read(sources, registry, Said(former, progress, diffbase))
    identity, refused = _identity(domain, operator, reading, keep=keep)
    keeps = identity is not None and domain is None
    with one_line():
        found, unseen = _looked(registry, reading, file, scope, kubeconfig, context)
    account = Account(reading, found, identity)
    answer = _Answer(account, refused, keeps_finalizer=keeps, is_shared=shared)
    if output == "json":
        click.echo(json.dumps(answer.as_json() | {"unseen": unseen_as_json(unseen)}, indent=2))
    else:
        click.echo("\n\n".join(answer.paragraphs()))
    say_unseen(unseen)
    sys.exit(UNSEEN if unseen else NO if answer.open else YES)


def _called() -> str:
    return click.get_current_context().find_root().info_name or "kopf-finalizers"


def _identity(
    domain: str | None, operator: str | None, reading: Reading, *, keep: bool
) -> tuple[OperatorIdentity | None, str]:
    """Who it is to be, or what stands against that."""
    if (domain is None) != (operator is None):
        missing = "--domain" if domain is None else "--operator"
        raise click.UsageError(f"{missing} is missing: give both, or none.")
    is_known = "finalizer" not in reading.unknown
    finalizer = next(iter(reading.today.finalizers), None) if is_known else None
    asked = (
        "Who it is to be: give --domain, which the organisation owns, and --operator, as in"
        " --domain mycompany.com --operator db-operator."
    )
    try:
        if domain is not None:
            identity = OperatorIdentity.checked(domain=domain, operator=operator)
            if keep and finalizer not in (None, identity.finalizer):
                identity = OperatorIdentity.checked(
                    domain=domain, operator=operator, keep_finalizer=finalizer
                )
            return identity, ""
        if finalizer is not None:
            return OperatorIdentity.from_template(finalizer), ""
    except ConfigurationError as error:
        if domain is not None:
            raise CommandError(str(error)) from None
        if finalizer != KOPF_FINALIZER:
            asked += f" With --keep beside them it goes on with {finalizer}."
    return None, asked


def _looked(
    registry: kopf.OperatorRegistry,
    reading: Reading,
    file: IO[str] | None,
    scope: Scope,
    kubeconfig: str | None,
    context: str | None,
) -> tuple[list[Carried], list[Unseen]]:
    fields = status_fields(reading.today)
    if file is not None:
        try:
            told = json.load(file)
        except ValueError as error:
            raise CommandError(
                f"{file.name} is no JSON ({error}): have kubectl print it with --output json."
            ) from None
        return carried_in(told, fields), []
    with connected(kubeconfig, context) as cluster:
        served = discover(cluster)
        bar = Bar("Looking")
        try:
            resources = handled_by(registry, served)
            found, unseen = carried_by(cluster, resources, scope, fields, Progress(bar.show))
        finally:
            bar.clear()
        return found, [*served.unseen, *unseen]


class _Answer:
    """All that is said of one operator."""

    def __init__(
        self, account: Account, refused: str, *, keeps_finalizer: bool, is_shared: bool
    ) -> None:
        self._account = account
        self._reading = account.reading
        self.open = list(self._reading.unknown.values())
        self.open += [*self._reading.doubts, *account.contradictions()]
        self.open += [refused] if refused else []
        self.releases: list[Release] = []
        if account.identity is not None and self._reading.is_told:
            self.releases = releases(
                self._reading.today,
                account.identity,
                carried=account.finalizers,
                keeps_finalizer=keeps_finalizer,
                is_shared=is_shared,
            )
            try:
                for one in self.releases:
                    one.tried()
            except ConfigurationError as error:
                self.open.append(f"configure() refuses what would be said: {error}")
                self.releases = []
        self._is_shared = is_shared
        self._keeps_finalizer = keeps_finalizer

    @property
    def _names(self) -> list[str]:
        """What no line may set any more."""
        return ["finalizer"] if self._reading.today.keeps_storages else list(NAMES)

    @property
    def _has_default_names(self) -> bool:
        today = self._reading.today
        is_written = today.guards and KOPF_FINALIZER in today.finalizers
        return is_written or (today.keeps_records and KOPF_PREFIX in today.prefixes)

    def spans(self) -> list[tuple[Source, Span]]:
        return [(one, span) for one in self._reading.sources for span in one.spans(self._names)]

    def mentions(self) -> Iterator[Line]:
        """Other lines that know the names of today."""
        today = self._reading.today
        names = [*today.finalizers, *(f"{one}/" for one in today.prefixes)]
        for source in self._reading.sources if names else ():
            yield from source.mentions(names, source.spans(self._names))

    def hints(self) -> Iterator[str]:
        """What nobody but the operator's people knows."""
        strangers = list(self._account.strangers())
        if strangers and not self._is_shared:
            yield (
                f"Where it keeps its progress there is some of {', '.join(strangers)}, which are no"
                " handlers of this operator: those of an older release of it, or of another"
                " operator with the same names. If of another one, say --shared."
            )
        elif self._has_default_names and not self._is_shared:
            yield (
                "Kopf's default names tell nothing about whose they are. If another Kopf operator"
                " with these names works on the same resources, say --shared."
            )
        if self._keeps_finalizer:
            yield (
                "It keeps its finalizer, and only its records move. For another finalizer, say"
                " --domain and --operator."
            )
        if self._reading.today.keeps_storages:
            yield (
                "It has a storage of its own making, so its storages stay as they are, and only"
                " its finalizer moves: no other operator may use the same storages. If it is one of"
                " Kopf's with other defaults, say the prefixes of its annotations with"
                " --former-progress-storage and --former-diffbase-storage: then they move, too."
            )

    def paragraphs(self) -> Iterator[str]:
        """For people."""
        reading, account = self._reading, self._account
        rows = [(name, reading.value(name), reading.said_by[name]) for name in NAMES]
        yield "Its names today:\n" + _table(("SETTING", "VALUE", "SAID BY"), rows)
        carried = account.rows()
        objects = f"Objects that were looked at: {account.objects:,}"
        if carried:
            head, *lines = _table(
                ("NAME", "OBJECTS", "RESOURCES"),
                [
                    (row.name, str(row.resources.total()), ", ".join(sorted(row.resources)))
                    for row in carried
                ],
            ).splitlines()
            # Whose it is takes a sentence, which is too long for a column.
            listed = (f"{line}\n  {row.whose}" for line, row in zip(lines, carried, strict=True))
            yield "\n".join([f"{objects}. They carry:", head, *listed])
        else:
            yield f"{objects}. They carry nothing of a Kopf operator's."
        if self.open:
            yield "To be said first:\n" + "\n".join(f"- {one}" for one in self.open)
        if hints := list(self.hints()):
            yield "To be known:\n" + "\n".join(f"- {one}" for one in hints)
        if spans := self.spans():
            yield "Lines that have to go:\n" + "\n".join(map(_shown, spans))
        if mentions := list(self.mentions()):
            told = "\n".join(f"{one}: {one.text}" for one in mentions)
            yield f"Other lines that know these names, to be looked at:\n{told}"
        for one in self.releases:
            yield f"Release {one.name}:\n\n{one.code}" if one.name else f"To be said:\n\n{one.code}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        reading = self._reading
        return {
            "names": {
                name: {
                    "value": None if name in reading.unknown else reading.value(name),
                    "saidBy": reading.said_by[name],
                }
                for name in NAMES
            },
            "objects": self._account.objects,
            "carried": [
                {"name": row.name, "whose": row.whose, "resources": dict(row.resources)}
                for row in self._account.rows()
            ],
            "open": self.open,
            "hints": list(self.hints()),
            "remove": [
                {
                    "file": span.file,
                    "first": span.first,
                    "last": span.last,
                    "leavesNothing": span.leaves_nothing,
                }
                for _, span in self.spans()
            ],
            "mentions": [
                {"file": one.file, "line": one.number, "text": one.text} for one in self.mentions()
            ],
            "releases": [one.code for one in self.releases],
        }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, rows).rstrip("\n")


def _shown(place: tuple[Source, Span]) -> str:
    source, span = place
    lines = source.text.splitlines()[span.first - 1 : span.last]
    more = "   (leave pass in its place)" if span.leaves_nothing else ""
    return f"{span.file}:{span.numbers}{more}\n" + "\n".join(f"    {line}" for line in lines)
