"""What an operator knows of its own finalizers, and how one is released by hand."""

import functools
import os
import shutil
import subprocess
from typing import Any

import kopf
import pytest

from kopf_finalizers import Finalizers, InventoryEntry, configure

from ..support.servers import Api, Resource, Server

OWN = "mycompany.com/db-operator"
BACKUPS = "mycompany.com/db-operator.backups"
KOPF = "kopf.zalando.org/KopfFinalizerMarker"
DATABASES = ("mycompany.com", "v1", "databases")


def fn(**_: Any) -> None: ...


def drop_backups(**_: Any) -> None: ...


def is_any(resource: kopf.Resource) -> bool:
    return True


def finalizers_with(**options: Any) -> Finalizers:
    return configure("mycompany.com", "db-operator", registry=kopf.OperatorRegistry(), **options)


def entries_of(finalizers: Finalizers, name: str) -> list[tuple[str, str, str]]:
    """Decorator, handler and what it waits for, of all entries of one finalizer."""
    return [
        (entry.decorator, entry.handler, entry.waits_for)
        for entry in finalizers.inventory()
        if entry.name == name
    ]


# What is in it


def test_an_operator_without_handlers_uses_no_finalizer() -> None:
    """An identity alone puts nothing on any object."""
    assert finalizers_with().inventory() == []


@pytest.mark.parametrize("kind", ["create", "resume", "update", "field", "event"])
def test_a_handler_that_needs_no_finalizer_is_not_listed(kind: str) -> None:
    """What Kopf handles without a finalizer has none in the record either."""
    finalizers = finalizers_with()
    field = {"field": "spec"} if kind == "field" else {}
    getattr(finalizers.on, kind)(*DATABASES, **field)(fn)
    assert finalizers.inventory() == []


def test_handlers_of_kopfs_own_decorators_are_listed() -> None:
    """They have Kopf put the operator's finalizer on their objects, as those of `on` do."""
    registry = kopf.OperatorRegistry()
    finalizers = configure("mycompany.com", "db-operator", registry=registry)
    finalizers.on.delete("others")(drop_backups)
    declare: Any = kopf.on
    declare.delete("databases", registry=registry)(fn)
    declare.delete("mygroup", "v1", "things", optional=True, registry=registry)(fn)
    declare.create("mygroup", "v1", "things", registry=registry)(fn)
    declare.daemon(*DATABASES, registry=registry)(fn)
    declare.timer(is_any, id="t", interval=9, registry=registry)(fn)
    assert [
        (entry.resource, entry.decorator, entry.handler) for entry in finalizers.inventory()
    ] == [
        ("others", "on.delete", "drop_backups"),
        ("databases", "kopf.on.delete", "fn"),
        ("databases.v1.mycompany.com", "kopf.on.daemon", "fn"),
        ("the resources that is_any selects", "kopf.on.timer", "t"),
    ]
    assert entries_of(finalizers, OWN)[2][2] == "the daemon fn to stop"


@pytest.mark.parametrize("options", [{"finalizer": None}, {"optional": True}])
def test_a_cleanup_that_never_blocks_a_deletion_is_not_listed(options: Any) -> None:
    """Such a cleanup has no finalizer, and nobody waits for it."""
    finalizers = finalizers_with()
    finalizers.on.delete(*DATABASES, **options)(fn)
    assert finalizers.inventory() == []


@pytest.mark.parametrize(
    ("kind", "waits_for"),
    [
        ("delete", "fn to succeed, or to be given up"),
        ("daemon", "the daemon fn to stop"),
        ("timer", "the timer fn to stop"),
    ],
)
def test_the_own_finalizer_is_listed_for_each_handler_that_needs_it(
    kind: str, waits_for: str
) -> None:
    """Kopf's one finalizer is there for cleanups, daemons and timers, each with its own end."""
    finalizers = finalizers_with()
    getattr(finalizers.on, kind)(*DATABASES)(fn)
    assert entries_of(finalizers, OWN) == [(f"on.{kind}", "fn", waits_for)]


def test_a_cleanup_with_a_dedicated_finalizer_holds_the_own_one_too() -> None:
    """Kopf calls a cleanup only while its own finalizer is on the object, so both are listed."""
    finalizers = finalizers_with()
    finalizers.on.delete(*DATABASES, finalizer="backups")(drop_backups)
    end = "drop_backups to succeed, or to be given up"
    assert entries_of(finalizers, OWN) == [("on.delete", "drop_backups", end)]
    assert entries_of(finalizers, BACKUPS) == [("on.delete", "drop_backups", end)]


def test_a_guarded_handler_waits_for_the_cleanup_of_its_finalizer() -> None:
    """A handler that shares a cleanup's finalizer is released with it, in whichever order."""
    finalizers = finalizers_with()
    finalizers.on.create(*DATABASES, finalizer="backups")(fn)
    finalizers.on.delete(*DATABASES, finalizer="backups")(drop_backups)
    end = "drop_backups to succeed, or to be given up"
    assert entries_of(finalizers, BACKUPS) == [
        ("on.create", "fn", end),
        ("on.delete", "drop_backups", end),
    ]


def test_an_entry_says_what_it_is_for_and_what_stays_behind() -> None:
    """The handler's own first paragraph, and what the cleanup leaves that the finalizer waits for.

    A decorator around the function makes no difference, nor does a partial function.
    """
    finalizers = finalizers_with()

    @finalizers.on.create("databases", finalizer="backups")
    def start_backups(**_: Any) -> None:
        """Begins the backups.

        Once a day.
        """

    @finalizers.on.delete("databases", finalizer="backups", leaves="the backups")
    @functools.wraps(start_backups)
    def drop(**_: Any) -> None: ...

    again = functools.partial(start_backups, why="deleted")
    finalizers.on.delete("databases", id="again")(again)
    finalizers.on.delete("databases")(fn)
    assert [(one.decorator, one.purpose, one.leaves) for one in finalizers.inventory()] == [
        ("on.delete", "Begins the backups.", "the backups"),
        ("on.delete", "Begins the backups.", None),
        ("on.delete", None, None),
        ("on.create", "Begins the backups.", "the backups"),
        ("on.delete", "Begins the backups.", "the backups"),
    ]


def test_an_entry_says_for_how_long_it_waits_at_the_longest() -> None:
    """The operator's own finalizer as well; not where an overdue cleanup is kept."""
    finalizers = finalizers_with()
    for name, on_timeout in {"backups": "release", "dns": "keep"}.items():
        options: Any = {"finalizer": name, "on_timeout": on_timeout, "release_after": 3600}
        finalizers.on.delete(*DATABASES, id=name, **options)(fn)
    late = (
        "backups to succeed, or to be given up, for 3600 seconds after the deletion at the longest"
    )
    kept = "dns to succeed, or to be given up"
    assert [one.waits_for for one in finalizers.inventory()] == [late, kept, late, kept]


def test_a_guarded_handler_without_a_cleanup_waits_for_nothing() -> None:
    """Its finalizer goes as soon as the object is being deleted, whatever others clean up."""
    finalizers = finalizers_with()
    finalizers.on.create(*DATABASES, finalizer="backups")(fn)
    finalizers.on.delete(*DATABASES, finalizer="dns")(drop_backups)
    finalizers.on.delete("mycompany.com", "v1", "users", finalizer="backups")(drop_backups)
    nothing = "nothing: it goes as soon as the object is being deleted"
    assert entries_of(finalizers, BACKUPS)[0] == ("on.create", "fn", nothing)


def test_entries_of_one_finalizer_stand_together_and_none_twice() -> None:
    """The record reads by finalizer, in the order in which they were declared first."""
    finalizers = finalizers_with()
    finalizers.on.create(*DATABASES, finalizer="dns")(fn)
    finalizers.on.create(*DATABASES, finalizer="backups")(fn)
    finalizers.on.resume(*DATABASES, finalizer="dns")(fn)
    finalizers.on.resume(*DATABASES, finalizer="dns")(fn)
    found = [(entry.name, entry.decorator) for entry in finalizers.inventory()]
    assert found == [
        (f"{OWN}.dns", "on.create"),
        (f"{OWN}.dns", "on.resume"),
        (BACKUPS, "on.create"),
    ]


def test_former_names_are_listed_after_those_that_replace_them() -> None:
    """Objects may still carry a former name, so it is in the record, with what it was for."""
    finalizers = finalizers_with(
        former=[KOPF], former_dedicated={"backups": ["mycompany.com/old-backups"]}
    )
    finalizers.on.delete(*DATABASES, finalizer="backups")(drop_backups)
    found = [(entry.name, entry.former_of) for entry in finalizers.inventory()]
    assert found == [
        (OWN, None),
        (KOPF, OWN),
        (BACKUPS, None),
        ("mycompany.com/old-backups", BACKUPS),
    ]
    assert len({entry.release for entry in finalizers.inventory()}) == 4


def test_a_lambda_has_the_same_name_on_every_machine() -> None:
    """Kopf's id of a lambda has the folder of its file, which is not for a document."""
    finalizers = finalizers_with()
    finalizers.on.event(*DATABASES, finalizer="backups")(lambda **_: None)
    (entry,) = finalizers.inventory()
    assert entry.handler.startswith("lambda:test_inventory.py:")
    assert os.sep not in entry.handler + entry.waits_for


# How the objects are named


def is_ours(resource: kopf.Resource) -> bool:
    return resource.group == "mycompany.com"


@pytest.mark.parametrize(
    ("args", "options", "resource"),
    [
        (("mycompany.com", "v1", "databases"), {}, "databases.v1.mycompany.com"),
        (("mycompany.com/v1", "databases"), {}, "databases.v1.mycompany.com"),
        (("databases.v1.mycompany.com",), {}, "databases.v1.mycompany.com"),
        (("mycompany.com", "databases"), {}, "databases.mycompany.com"),
        (("v1", "pods"), {}, "pods"),
        (("pods",), {}, "pods"),
        ((), {"kind": "Pod"}, "Pod"),
    ],
)
def test_a_resource_is_named_as_kubectl_takes_it(args: Any, options: Any, resource: str) -> None:
    """However a handler names its resource, the record and the command name it in one way."""
    finalizers = finalizers_with()
    finalizers.on.delete(*args, **options)(fn)
    (entry,) = finalizers.inventory()
    assert entry.resource == resource
    assert entry.release.startswith(f"kubectl patch {resource} NAME --namespace NAMESPACE ")


@pytest.mark.parametrize(
    ("args", "options", "words"),
    [
        ((kopf.EVERYTHING,), {}, "all resources"),
        (("mycompany.com", "v1", kopf.EVERYTHING), {}, "all resources in v1.mycompany.com"),
        ((), {"category": "all"}, "the resources of the category all"),
        ((is_ours,), {}, "the resources that is_ours selects"),
    ],
)
def test_what_kubectl_cannot_name_is_said_in_words(args: Any, options: Any, words: str) -> None:
    """A handler of many resources has no single name for the command to use."""
    finalizers = finalizers_with()
    finalizers.on.delete(*args, **options)(fn)
    (entry,) = finalizers.inventory()
    assert entry.resource == words
    assert entry.release.startswith("kubectl patch RESOURCE NAME --namespace NAMESPACE ")


# Releasing by hand


@pytest.fixture
def entry(resource: Resource) -> InventoryEntry:
    """The entry of a cleanup of the test's own resource."""
    finalizers = finalizers_with()
    finalizers.on.delete(resource.group, resource.version, resource.plural, finalizer="backups")(fn)
    return finalizers.inventory()[-1]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not there")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a.org/a", BACKUPS, "b.org/b"], ["a.org/a", "b.org/b"]),
        ([BACKUPS, "a.org/a", OWN], ["a.org/a", OWN]),
        ([BACKUPS, "a.org/a", BACKUPS], [BACKUPS, "a.org/a"]),
        (["a.org/a"], ["a.org/a"]),
    ],
    ids=["between others", "the first one", "there twice", "not there"],
)
def test_the_command_takes_one_entry_off_and_nobody_elses(
    entry: InventoryEntry, api: Api, server: Server, resource: Resource,
    before: list[str], after: list[str],
) -> None:  # fmt: skip
    """With a real kubectl: one's own entry goes, also from an object that is being deleted."""
    api.create(resource.path, resource.body("a", finalizers=before)).raise_for_status()
    api.delete(resource.path_to("a")).raise_for_status()
    command = entry.release.replace(" NAME ", " a ")
    process = subprocess.run(
        ["/bin/sh", "-c", command.replace("NAMESPACE", str(resource.namespace))],
        env=os.environ | {"KUBECONFIG": str(server.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode == 0) is (before != after), process.stderr
    assert api.get(resource.path_to("a")).json()["metadata"]["finalizers"] == after


def test_the_patch_of_the_command_is_refused_after_a_change(api: Api, resource: Resource) -> None:
    """Where the list has changed since it was read, the same patch takes nobody's entry off."""
    body = resource.body("a", finalizers=["a.org/a", BACKUPS, "b.org/b"])
    uid = api.create(resource.path, body).raise_for_status().json()["metadata"]["uid"]
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/metadata/finalizers/1", "value": BACKUPS},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]
    first = [{"op": "remove", "path": "/metadata/finalizers/0"}]
    api.json_patch(resource.path_to("a"), first).raise_for_status()
    assert api.json_patch(resource.path_to("a"), patch).status_code == 422
    assert api.get(resource.path_to("a")).json()["metadata"]["finalizers"] == [BACKUPS, "b.org/b"]


def test_the_command_makes_that_patch(entry: InventoryEntry) -> None:
    """What kubectl fills in is a JSON Patch that names the object, the place and the entry."""
    for part in (
        '{"op": "test", "path": "/metadata/uid", "value": "%s"}',
        '{"op": "test", "path": "/metadata/finalizers/%d", "value": "%s"}',
        '{"op": "remove", "path": "/metadata/finalizers/%d"}',
        f'{{{{- if eq $f "{BACKUPS}" -}}}}',
    ):
        assert part in entry.release
