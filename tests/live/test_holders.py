"""`kopf-finalizers holders`: who holds what, on an API server and in what kubectl has printed."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from ..support.commands import run, scripted, told
from ..support.held import BACKUPS, OPERATOR, OURS, THEIRS, made, operator_file, page, record, stuck
from ..support.servers import Api, Resource, Server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return operator_file(tmp_path)


# All objects


def test_the_objects_of_a_namespace_are_counted_by_finalizer(
    server: Server, api: Api, resource: Resource
) -> None:
    """Those being deleted, and no others; and something held is the exit code 1."""
    for name in "ab":
        stuck(api, resource, name, OURS, BACKUPS)
    stuck(api, resource, "c", THEIRS)
    made(api, resource, "d", THEIRS)
    result = run("holders", "-n", str(resource.namespace), on=server)
    head, *rows = [line.split() for line in result.stdout.splitlines()]
    assert head == ["FINALIZER", "HELD", "OLDEST", "RESOURCES"]
    assert [[row[0], row[1], row[3]] for row in rows] == [
        [OURS, "2", "things.example.com"],
        [BACKUPS, "2", "things.example.com"],
        [THEIRS, "1", "things.example.com"],
    ]
    assert result.exit_code == 1


def test_a_duplicate_in_a_list_is_one_holder(server: Server, api: Api, resource: Resource) -> None:
    """An API server keeps it twice, and it is one object that is held."""
    stuck(api, resource, "a", OURS, OURS)
    found = told(run("holders", "things", "-n", str(resource.namespace), "-o", "json", on=server))
    assert [(one["name"], one["beingDeleted"]) for one in found["finalizers"]] == [(OURS, 1)]
    one = told(run("holders", "things/a", "-n", str(resource.namespace), "-o", "json", on=server))
    assert [each["name"] for each in one["objects"][0]["finalizers"]] == [OURS]


def test_names_that_are_odd_are_counted_like_others(
    server: Server, api: Api, resource: Resource
) -> None:
    """Without a domain, with upper case: whatever an API server takes."""
    names = {"orphan", "my-finalizer", "other.org/MyFinalizer"}
    stuck(api, resource, "a", *names)
    found = told(run("holders", "-n", str(resource.namespace), "-o", "json", on=server))
    assert {one["name"] for one in found["finalizers"]} == names


def test_what_has_only_begun_can_be_left_out(server: Server, api: Api, resource: Resource) -> None:
    """A deletion takes its time."""
    stuck(api, resource, "a", OURS)
    where = ["-n", str(resource.namespace)]
    assert run("holders", *where, "--stuck-for", "1h30m", on=server).output == "Nothing is held.\n"
    assert run("holders", *where, "--stuck-for", "1h30m", on=server).exit_code == 0
    assert run("holders", *where, "--stuck-for", "0s", on=server).exit_code == 1
    result = run("holders", "--stuck-for", "soon", on=server)
    assert result.exit_code == 2
    assert '"soon" is no span of time' in result.output


def test_what_has_only_begun_is_left_out_with_an_operator_too(
    server: Server, api: Api, resource: Resource, file: Path
) -> None:
    """Its records as well, and it is none of the living ones."""
    stuck(api, resource, "a", BACKUPS, annotations={"db-operator.mycompany.com/x": "1"})
    where = ["things", "-n", str(resource.namespace), "--operator", str(file)]
    assert run("holders", *where, "--stuck-for", "1h", on=server).output == "Nothing is held.\n"


def test_interrupted_no_further_page_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has seen enough does not wait for the rest of the cluster."""
    from kopf_finalizers._cluster.access import Cluster
    from kopf_finalizers._cluster.discovery import Resource as Listed
    from kopf_finalizers._cluster.discovery import Unseen
    from kopf_finalizers._cluster.listing import Scope, look_at_all

    begun, stopped = threading.Event(), threading.Event()

    class Slow:
        """Waits with its first page until nobody wants the second one."""

        def look(self, _: Any) -> None:
            begun.set()
            stopped.wait(30)

    class Stop(threading.Event):
        def set(self) -> None:
            super().set()
            stopped.set()

    monkeypatch.setattr("kopf_finalizers._cluster.listing.threading.Event", Stop)
    large, gone = (Listed("example.com", "v1", name, "Kind") for name in ("larges", "gones"))
    pages = {"/apis/example.com/v1/larges": page("a", token="1")}
    with (
        scripted(**pages) as server,
        Cluster(kubeconfig=str(server.kubeconfig(tmp_path))) as cluster,
    ):
        looked = look_at_all(cluster, [large, gone], Scope(), lambda _: Slow())
        assert isinstance(next(looked)[1], Unseen)
        assert begun.wait(30)
        looked.close()
        asked = [one for one in server.asked if one.path.endswith("larges")]
    assert len(asked) <= 2


def test_labels_tell_which_objects_are_meant(server: Server, api: Api, resource: Resource) -> None:
    """As in kubectl."""
    stuck(api, resource, "a", OURS, labels={"app": "db"})
    where = ["things", "-n", str(resource.namespace), "-l"]
    assert run("holders", *where, "app=db", on=server).exit_code == 1
    assert run("holders", *where, "app=web", on=server).exit_code == 0


def test_the_names_of_objects_can_be_given_to_another_command(
    server: Server, api: Api, resource: Resource
) -> None:
    """With the namespace, where it was not given."""
    stuck(api, resource, "a", OURS, THEIRS)
    inside = str(resource.namespace)
    result = run("holders", "things", "-n", inside, "-o", "name", on=server)
    assert result.output == "things.example.com/a\n"
    everywhere = run("holders", "things", "-A", "-o", "name", on=server).output
    assert f"things.example.com/a --namespace {inside}\n" in everywhere


def test_wide_names_the_object_that_is_held_longest(
    server: Server, api: Api, resource: Resource
) -> None:
    """So that there is one to look at."""
    stuck(api, resource, "a", OURS)
    result = run("holders", "things", "-n", str(resource.namespace), "-o", "wide", on=server)
    assert result.stdout.splitlines()[1].split()[-1] == f"things.example.com/{resource.namespace}/a"


def test_n_and_a_contradict_each_other(server: Server) -> None:
    """Nobody has to guess which one counts."""
    result = run("holders", "-n", "shop", "-A", on=server)
    assert result.exit_code == 2
    assert "contradict each other" in result.output


def test_a_large_list_comes_in_pages(
    server: Server, api: Api, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each object is counted once."""
    monkeypatch.setattr("kopf_finalizers._cluster.listing.PAGE", 3)
    for number in range(10):
        stuck(api, resource, f"a{number}", OURS)
    found = told(run("holders", "things", "-n", str(resource.namespace), "-o", "json", on=server))
    assert found["finalizers"][0]["beingDeleted"] == 10


# One object


def test_one_object_is_shown_with_what_kopf_has_noted_on_it(
    server: Server, api: Api, resource: Resource
) -> None:
    """How often each handler was tried, its last error, and when it is tried next."""
    soon = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    annotations = {
        "db-operator.mycompany.com/drop_backups": record(
            purpose="delete", retries=3, delayed=soon, message="no\nconnection"
        ),
        "kopf.zalando.org/parent": record(
            retries=1, success=False, failure=False, subrefs=["parent/sub"]
        ),
        "kopf.zalando.org/parent.sub": record(retries=7, failure=True, message="gone"),
        "kopf.zalando.org/done": record(success=True, retries=1),
        "any.example.com/fresh": record(),
        "any.example.com/due": record(retries=1, delayed="2026-01-01T00:00:01"),
        "any.example.com/last-handled-configuration": '{"spec": {}}',
        "someone.example.com/note": '{"started": "by hand", "by": "me"}',
    }
    stuck(api, resource, "a", BACKUPS, THEIRS, annotations=annotations)
    result = run("holders", "thing/a", "-n", str(resource.namespace), on=server)
    assert result.exit_code == 1
    first, *_ = result.stdout.splitlines()
    assert first.startswith(f"things.example.com/a in {resource.namespace} is being deleted for ")
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert rows["drop_backups"][1:5] == ["delete", "3", "is", "tried"]
    assert rows["drop_backups"][-2:] == ["no", "connection"]
    assert rows["parent"][1:] == ["-", "1", "under", "way", "-", "-"]
    assert rows["parent.sub"][1:] == ["-", "7", "given", "up", "-", "gone"]
    assert "\n  parent.sub " in result.stdout
    assert rows["done"][1:4] == ["-", "1", "succeeded"]
    assert rows["fresh"][1:] == ["-", "0", "not", "tried", "yet", "-", "-"]
    assert rows["due"][1:] == ["-", "1", "is", "due", "now", "-"]
    assert "note" not in rows
    assert (
        f"{BACKUPS}\n  owner: the Kopf operator db-operator of mycompany.com, for backups, by its"
        " records on the object\n"
    ) in result.stdout


def test_a_finalizer_of_which_nothing_is_known_is_shown_as_such(
    server: Server, api: Api, resource: Resource
) -> None:
    """That it looks like a name of this library's says nothing."""
    stuck(api, resource, "a", BACKUPS, "my-finalizer", "kopf.zalando.org/KopfFinalizerMarker")
    text = run("holders", "things", "a", "-n", str(resource.namespace), on=server).stdout
    assert f"{BACKUPS}\n  owner: not known; whom to ask: mycompany.com\n" in text
    assert "my-finalizer\n  owner: not known; whom to ask: nobody, by its name\n" in text
    assert "owner: some Kopf operator that has not chosen a name\n" in text


@pytest.mark.parametrize("name", ["things", "thing", "Thing", "things.example.com",
                                  "things.v1.example.com", "Thing.v1.example.com"])  # fmt: skip
def test_a_resource_is_named_as_for_kubectl(
    server: Server, api: Api, resource: Resource, name: str
) -> None:
    """By its plural, its singular, its kind; with its group, and with its version."""
    made(api, resource, "a", OURS)
    result = run("holders", f"{name}/a", "-n", str(resource.namespace), on=server)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"things.example.com/a in {resource.namespace} is alive\n")


def test_an_object_or_a_resource_that_is_not_there_is_an_error(
    server: Server, resource: Resource
) -> None:
    """In the API server's words."""
    result = run("holders", "things/nosuch", "-n", str(resource.namespace), on=server)
    assert result.exit_code == 2
    assert 'things.example.com "nosuch" not found' in result.output
    result = run("holders", "nosuches/a", on=server)
    assert result.exit_code == 2
    assert result.output == 'Error: The cluster has no resource "nosuches".\n'


@pytest.mark.parametrize("target", [["things/a", "b"], ["things/"], ["/a"], ["things/a/b"]])
def test_what_names_no_object_is_wrong_usage(server: Server, target: list[str]) -> None:
    """One way or the other, as for kubectl."""
    result = run("holders", *target, on=server)
    assert result.exit_code == 2
    assert "RESOURCE/NAME" in result.output


def test_a_namespace_says_where_to_look(server: Server, api: Api) -> None:
    """It waits for what is in it, and its own list says nothing of that."""
    api.create("/api/v1/namespaces", {"metadata": {"name": "going"}}).raise_for_status()
    api.delete("/api/v1/namespaces/going").raise_for_status()
    result = run("holders", "ns/going", on=server)
    assert "no finalizer is on it\n" in result.stdout
    assert "holders -n going\n" in result.stdout


# An operator


def test_the_names_of_an_operator_are_told_apart(
    server: Server, api: Api, resource: Resource, file: Path
) -> None:
    """Served by a handler, an orphan, of the same domain, or somebody else's: on living objects."""
    dropped, shard = f"{OURS}.dns", f"{OURS}-2"
    made(api, resource, "alive", OURS, BACKUPS, dropped, f"{OURS}.snapshots", THEIRS)
    stuck(api, resource, "held", BACKUPS, shard, THEIRS)
    where = ["things", "-n", str(resource.namespace), "--operator", str(file)]
    rows = {
        one["name"]: (one["whose"], one["alive"], one["beingDeleted"])
        for one in told(run("holders", *where, "-o", "json", on=server))["finalizers"]
    }
    assert rows == {
        OURS: ("served", 1, 0),
        BACKUPS: ("served", 1, 1),
        f"{OURS}.snapshots": ("served", 1, 0),
        dropped: ("orphan", 1, 0),
        shard: ("same domain", 0, 1),
        THEIRS: ("other", 0, 1),
    }
    result = run("holders", *where, "--only", "orphan", "-o", "name", on=server)
    assert (result.exit_code, result.output) == (1, "things.example.com/alive\n")
    head, *_ = run("holders", *where, on=server).stdout.splitlines()
    assert head.split() == ["FINALIZER", "WHOSE", "ALIVE", "HELD", "OLDEST", "RESOURCES"]
    text = run("holders", "things/alive", *where[1:], on=server).stdout
    assert (
        f"{OURS}\n  owner: {OURS}, which was asked about\n"
        "  waits for: drop_backups to succeed, or to be given up\n"
        "  waits for: the daemon watch to stop\n"
        "  is for: Drops the backups.\n"
        "  stays behind without it: the backups\n"
    ) in text
    assert f"{dropped}\n  owner: {OURS}, but no handler of this release serves it here\n" in text
    assert f"{OURS}.snapshots\n  owner: {OURS}, which was asked about\n" in text
    assert "  waits for: the snapshot to end\n" in text


def test_an_orphan_on_a_living_object_is_something_to_look_at(
    server: Server, api: Api, resource: Resource, file: Path
) -> None:
    """It will hang when it is deleted; what handlers serve will not."""
    made(api, resource, "a", BACKUPS)
    where = ["things", "-n", str(resource.namespace), "--operator", str(file)]
    assert run("holders", *where, on=server).exit_code == 0
    made(api, resource, "b", f"{OURS}.dns")
    assert run("holders", *where, on=server).exit_code == 1
    assert run("holders", *where, "--only", "former", on=server).exit_code == 0


def test_what_has_not_been_renamed_yet_is_found(
    server: Server, api: Api, resource: Resource, file: Path
) -> None:
    """Former names, former records, and records of which the release before knows nothing."""
    marker = "kopf.zalando.org/KopfFinalizerMarker"
    file.write_text(OPERATOR.replace('"db-operator")', f'"db-operator", former=["{marker}"])'))
    made(api, resource, "finalizer", marker)
    made(api, resource, "both", OURS,
         annotations={"kopf.zalando.org/x": "1", "db-operator.mycompany.com/x": "1"})  # fmt: skip
    made(api, resource, "new", OURS, annotations={"db-operator.mycompany.com/x": "1"})
    made(api, resource, "none")
    where = ["things", "-n", str(resource.namespace), "--operator", str(file), "-o", "name"]

    def found(*only: str) -> set[str]:
        options = [part for one in only for part in ("--only", one)]
        lines = run("holders", *where, *options, on=server).output.splitlines()
        return {line.partition("/")[2] for line in lines}

    assert found("former", "former records") == {"finalizer", "both"}
    assert found("own records only") == {"new"}
    text = run("holders", "things/finalizer", *where[1:-2], on=server).stdout
    assert f"{marker}\n  owner: a former name of {OURS}\n" in text


def test_only_needs_an_operator() -> None:
    """Without one no name is anybody's."""
    result = run("holders", "--only", "orphan")
    assert result.exit_code == 2
    assert "give --operator or -m" in result.output


# What kubectl has printed


def test_what_kubectl_has_printed_is_read_without_a_cluster(file: Path, tmp_path: Path) -> None:
    """One object or a list of them, from a file or a pipe."""
    metadata = {
        "name": "a",
        "namespace": "shop",
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": [BACKUPS, f"{OURS}.dns"],
    }
    one = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata}
    alone = run("holders", "-f", "-", input=json.dumps(one))
    assert alone.exit_code == 1
    assert alone.stdout.startswith("thing.example.com/a in shop is being deleted for ")
    (tmp_path / "list.json").write_text(json.dumps({"kind": "List", "items": [one, one]}))
    listed = run("holders", "-f", str(tmp_path / "list.json"), "--operator", str(file))
    assert listed.stdout.count("drop_backups to succeed") == 2
    assert listed.stdout.count("no handler of this release serves it here") == 2
    names = run("holders", "-f", str(tmp_path / "list.json"), "-o", "name")
    assert names.stdout == "thing.example.com/a\n" * 2
    empty = run("holders", "-f", "-", input='{"kind": "List", "items": null}')
    assert (empty.exit_code, empty.output) == (0, "")


def test_an_object_that_still_has_time_to_end_by_itself_says_so() -> None:
    """A pod is given some seconds, and its deletion is in the future as long."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    metadata = {"name": "a", "deletionTimestamp": soon, "finalizers": [OURS]}
    told_of = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    result = run("holders", "-f", "-", input=json.dumps(told_of))
    assert result.stdout.startswith("pod/a is being deleted, with 4m")


def test_records_are_there_for_programs_too() -> None:
    """With points in time, not spans."""
    later = "2026-01-01T00:10:00+00:00"
    annotations = {"a.example.com/x": record(retries=2, delayed=later, message="no")}
    told_of = {"kind": "Thing", "metadata": {"name": "a", "annotations": annotations}}
    found = told(run("holders", "-f", "-", "-o", "json", input=json.dumps(told_of)))
    assert found["objects"][0]["records"] == [{
        "prefix": "a.example.com", "handler": "x", "purpose": None, "state": "is due",
        "attempts": 2, "started": "2026-01-01T00:00:00+00:00", "nextAttempt": later,
        "message": "no", "subhandlers": [],
    }]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: 1", "is no JSON"), ("[]", "no object in it"), ('{"kind": "Status"}', "no object in it")],
)
def test_what_kubectl_has_not_printed_is_an_error(text: str, said: str) -> None:
    """YAML, say, or a refusal."""
    result = run("holders", "-f", "-", input=text)
    assert result.exit_code == 2
    assert said in result.output


def test_a_file_and_a_target_are_too_much() -> None:
    """One of them."""
    assert run("holders", "-f", "-", "things/a", input="{}").exit_code == 2
