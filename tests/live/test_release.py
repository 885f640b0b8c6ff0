"""`kopf-finalizers release`: one finalizer off the objects named, and nothing else off anything."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from kopf_finalizers._cluster.changing import Outcome, Releasing, Target
from kopf_finalizers.testing import ApiServer

from ..support.commands import DISCOVERY, kubeconfig, on_terminal, run, scripted
from ..support.held import BACKUPS, OURS, THEIRS, made, operator_file, stuck
from ..support.servers import Api, KubeApiServer, Resource, Server, client_of, wait_until


def finalizers_of(api: Api, resource: Resource, name: str) -> list[str] | None:
    """What is on an object; None where it is gone."""
    answer = api.get(resource.path_to(name))
    return None if answer.status_code == 404 else answer.json()["metadata"].get("finalizers", [])


@pytest.fixture
def inside(resource: Resource) -> list[str]:
    """The namespace of the test, as options."""
    return ["-n", str(resource.namespace)]


@pytest.fixture
def before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Have something happen after the plan was shown, while somebody thinks about the answer."""

    def register(action: Callable[[], Any]) -> None:
        monkeypatch.setattr("kopf_finalizers._cli.changes.confirm", lambda *_, **__: action())

    return register


# What it does


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        ([THEIRS, BACKUPS, OURS], BACKUPS, [THEIRS, OURS]),
        ([BACKUPS, THEIRS, BACKUPS], BACKUPS, [THEIRS]),
        (["Odd-Name", "other.org/Odd", THEIRS], "Odd-Name", ["other.org/Odd", THEIRS]),
        (["Odd-Name", "other.org/Odd"], "other.org/Odd", ["Odd-Name"]),
    ],
    ids=["between others", "there twice", "without a domain", "upper case"],
)
def test_exactly_one_name_goes(
    server: Server, api: Api, resource: Resource, inside: list[str],
    before: list[str], name: str, after: list[str],
) -> None:  # fmt: skip
    """With all its duplicates, and everyone else's stay in their order."""
    stuck(api, resource, "a", *before)
    result = run("release", name, "thing/a", "--yes", *inside, on=server)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"things.example.com/a in {resource.namespace}: released\n"
    assert finalizers_of(api, resource, "a") == after


def test_an_object_goes_with_its_last_finalizer(
    server: Server, api: Api, resource: Resource, inside: list[str]
) -> None:
    """And a second run says that it is gone."""
    stuck(api, resource, "a", OURS)
    assert run("release", OURS, "things", "a", "--yes", *inside, on=server).exit_code == 0
    assert finalizers_of(api, resource, "a") is None
    again = run("release", OURS, "things", "a", "--yes", *inside, on=server)
    assert again.exit_code == 0
    assert again.stdout == f"things.example.com/a in {resource.namespace}: gone\n"


def test_a_living_object_is_left_alone(
    server: Server, api: Api, resource: Resource, inside: list[str]
) -> None:
    """Unless that is asked for: its cleanup is still to come."""
    made(api, resource, "a", OURS)
    result = run("release", OURS, "things/a", "--yes", *inside, on=server)
    assert result.exit_code == 1
    assert "left: it is alive; --alive releases it all the same" in result.stdout
    assert finalizers_of(api, resource, "a") == [OURS]
    assert run("release", OURS, "things/a", "--yes", "--alive", *inside, on=server).exit_code == 0
    assert finalizers_of(api, resource, "a") == []


def test_all_that_are_stuck_are_released_in_one_namespace(
    server: Server, api: Api, resource: Resource, inside: list[str]
) -> None:
    """Those that carry the finalizer, and are being deleted, and have the labels."""
    for name in ("a", "b"):
        stuck(api, resource, name, OURS, THEIRS, labels={"app": "db"})
    stuck(api, resource, "unlabelled", OURS)
    stuck(api, resource, "others", THEIRS, labels={"app": "db"})
    made(api, resource, "alive", OURS, labels={"app": "db"})
    arguments = ["release", OURS, "--all-stuck", "things", "--yes", *inside]
    none = run(*arguments, "--stuck-for", "1h", on=server)
    assert (none.exit_code, none.stderr) == (0, "There is nothing to release.\n")
    result = run(*arguments, "-l", "app=db", on=server)
    assert result.exit_code == 0, result.output
    assert {line.partition(" ")[0] for line in result.stdout.splitlines()} == {
        "things.example.com/a",
        "things.example.com/b",
    }
    assert result.stderr.endswith("Of 2 objects: 2 released.\n")
    assert finalizers_of(api, resource, "a") == [THEIRS]
    assert finalizers_of(api, resource, "unlabelled") == [OURS]
    assert finalizers_of(api, resource, "others") == [THEIRS]
    assert finalizers_of(api, resource, "alive") == [OURS]


def test_without_a_namespace_it_is_the_one_of_the_context(
    server: Server, api: Api, kind_of_object: Resource
) -> None:
    """As in kubectl: all of them are meant with -A alone."""
    here, there = kind_of_object.within("default"), kind_of_object.within("kube-system")
    name = "acme.example.com/here"
    for resource in (here, there):
        stuck(api, resource, "release-here", name)
    assert run("release", name, "--all-stuck", "things", "--yes", on=server).exit_code == 0
    assert finalizers_of(api, here, "release-here") is None
    assert finalizers_of(api, there, "release-here") == [name]
    assert run("release", name, "--all-stuck", "things", "-A", "--yes", on=server).exit_code == 0
    assert finalizers_of(api, there, "release-here") is None


def test_an_object_of_the_cluster_needs_no_namespace(server: Server, api: Api) -> None:
    """Its finalizers are its metadata's: the subresource of namespaces is never asked."""
    name = "acme.example.com/cluster"
    for space in ("release-1", "release-2"):
        body = {"metadata": {"name": space, "finalizers": [name]}}
        api.create("/api/v1/namespaces", body).raise_for_status()
        api.delete(f"/api/v1/namespaces/{space}").raise_for_status()
    one = run("release", name, "ns/release-1", "--yes", on=server)
    assert one.stdout == "namespaces/release-1: released\n"
    all_of_them = run("release", name, "--all-stuck", "namespaces", "-n", "x", "--yes", on=server)
    assert all_of_them.stdout == "namespaces/release-2: released\n"


def test_the_finalize_subresource_is_never_asked(in_process_server: ApiServer) -> None:
    """Whatever is released: it would empty what the namespace controller waits for."""
    with contextlib.closing(client_of(in_process_server)) as api:
        body = {"metadata": {"name": "finalizing", "finalizers": [OURS]}}
        api.create("/api/v1/namespaces", body).raise_for_status()
        api.delete("/api/v1/namespaces/finalizing").raise_for_status()
    before = len(in_process_server.requests)
    run("release", OURS, "ns/finalizing", "--yes", on=in_process_server)
    asked = in_process_server.requests[before:]
    assert [one.path for one in asked if one.method != "GET"] == ["/api/v1/namespaces/finalizing"]


# What it refuses


@pytest.mark.parametrize("name", [f"{OURS},{THEIRS}", "*", f"[{OURS}]", "", "a.org/b/c", "null"])
def test_no_more_than_one_name_is_ever_released(in_process_server: ApiServer, name: str) -> None:
    """Nor a list as a whole."""
    before = len(in_process_server.requests)
    result = run("release", name, "ns/default", "--yes", "--alive", on=in_process_server)
    asked = in_process_server.requests[before:]
    assert all(one.method == "GET" for one in asked)
    if name != "null":  # which is a name like others
        assert result.exit_code == 2
        assert "One finalizer is released at a time." in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        [OURS],
        [OURS, "things/a", "--all-stuck", "things"],
        [OURS, "--all-stuck", "things", "--alive"],
        [OURS, "things/a", "-A"],
        [OURS, "things"],
    ],
)
def test_what_is_meant_has_to_be_clear(server: Server, arguments: list[str]) -> None:
    """One way to say it, and all of it."""
    assert run("release", *arguments, "--yes", on=server).exit_code in (0, 2)
    result = run("release", *arguments[:2], *arguments[2:], on=server)
    assert "released" not in result.stdout


def test_without_a_terminal_it_wants_a_yes(
    server: Server, api: Api, resource: Resource, inside: list[str]
) -> None:
    """A script that has not said so changes nothing."""
    stuck(api, resource, "a", OURS)
    result = run("release", OURS, "things/a", *inside, on=server, input="y\n")
    assert result.exit_code == 2
    assert f"this takes {OURS}, and no other, off:\n  things.example.com/a in " in result.stderr
    assert "run it again with --yes" in result.stderr
    assert finalizers_of(api, resource, "a") == [OURS]


@pytest.mark.parametrize(("answer", "is_done"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_it_asks(
    in_process_server: ApiServer, answer: str, is_done: bool, kind_of_object_in_process: Resource
) -> None:
    """And does nothing without a yes."""
    things = kind_of_object_in_process
    with contextlib.closing(client_of(in_process_server)) as api:
        stuck(api, things, "asked", OURS)
        where = ["-n", "default", "--kubeconfig", str(in_process_server.kubeconfig)]
        code, seen = on_terminal("release", OURS, "asks/asked", *where, answer=answer)
        assert f"Take {OURS} off 1 object? [y/N]: " in seen
        assert code == (0 if is_done else 2)
        assert (finalizers_of(api, things, "asked") is None) is is_done
        if not is_done:
            run("release", OURS, "asks/asked", "-n", "default", "--yes", on=in_process_server)


@pytest.fixture(scope="module")
def kind_of_object_in_process(in_process_server: ApiServer) -> Resource:
    in_process_server.define("asks.example.com", "v1", "asks", kind="Ask")
    return Resource("asks.example.com", "v1", "asks", "Ask")


def test_a_dry_run_of_the_client_changes_nothing(
    server: Server, api: Api, resource: Resource, inside: list[str]
) -> None:
    """It says what would be done, and asks nobody."""
    stuck(api, resource, "a", OURS)
    before = api.get(resource.path_to("a")).json()
    result = run("release", OURS, "things/a", "--dry-run=client", *inside, on=server)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("Nothing was changed (client dry run).\n")
    assert api.get(resource.path_to("a")).json() == before


def test_a_dry_run_of_the_server_changes_nothing(real_server: KubeApiServer) -> None:
    """The API server says what it would do."""
    maps = Resource("", "v1", "configmaps", "ConfigMap", "default")
    path = "/api/v1/namespaces/default/configmaps"
    with contextlib.closing(client_of(real_server)) as api:
        api.create(path, {"metadata": {"name": "dry", "finalizers": [OURS]}}).raise_for_status()
        api.delete(f"{path}/dry").raise_for_status()
        before = api.get(f"{path}/dry").json()
        arguments = ["release", OURS, f"{maps.plural}/dry", "-n", "default", "--dry-run=server"]
        result = run(*arguments, on=real_server)
        assert result.exit_code == 0, result.output
        assert result.stdout == "configmaps/dry in default: released (server dry run)\n"
        assert api.get(f"{path}/dry").json() == before
        api.json_patch(f"{path}/dry", [{"op": "remove", "path": "/metadata/finalizers"}])


# What happens meanwhile


def test_another_object_under_the_same_name_is_left_alone(
    server: Server, api: Api, resource: Resource, inside: list[str],
    before_it_is_done: Callable[[Callable[[], Any]], None],
) -> None:  # fmt: skip
    """What was shown is what is released."""
    stuck(api, resource, "a", OURS)

    def replace() -> None:
        patch = [{"op": "remove", "path": "/metadata/finalizers"}]
        api.json_patch(resource.path_to("a"), patch).raise_for_status()
        stuck(api, resource, "a", OURS)

    before_it_is_done(replace)
    result = run("release", OURS, "things/a", *inside, on=server)
    assert result.stdout == f"things.example.com/a in {resource.namespace}: gone\n"
    assert finalizers_of(api, resource, "a") == [OURS]


def test_an_object_that_vanishes_is_gone(
    server: Server, api: Api, resource: Resource, inside: list[str],
    before_it_is_done: Callable[[Callable[[], Any]], None],
) -> None:  # fmt: skip
    """Which is as good as released."""
    stuck(api, resource, "a", OURS)
    patch = [{"op": "remove", "path": "/metadata/finalizers"}]
    before_it_is_done(lambda: api.json_patch(resource.path_to("a"), patch).raise_for_status())
    result = run("release", OURS, "things/a", *inside, on=server)
    assert (result.exit_code, result.stdout.rpartition(": ")[2]) == (0, "gone\n")


def test_a_list_that_changes_meanwhile_is_read_again(
    server: Server, api: Api, resource: Resource, inside: list[str],
    before_it_is_done: Callable[[Callable[[], Any]], None],
) -> None:  # fmt: skip
    """The entry is at another place by then, and another one is at its own."""
    stuck(api, resource, "a", "a.org/a", OURS, THEIRS)
    patch = [{"op": "remove", "path": "/metadata/finalizers/0"}]
    before_it_is_done(lambda: api.json_patch(resource.path_to("a"), patch).raise_for_status())
    result = run("release", OURS, "things/a", *inside, on=server)
    assert result.exit_code == 0
    assert finalizers_of(api, resource, "a") == [THEIRS]


def test_a_refusal_is_told_in_the_servers_words(real_server: KubeApiServer, tmp_path: Path) -> None:
    """A user who may look and not touch: it is no lost race, and is not tried again."""
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/readonly"
    maps = Resource("", "v1", "configmaps", "ConfigMap", "readonly")
    path = "/api/v1/namespaces/readonly/configmaps"
    with contextlib.closing(client_of(real_server)) as api:
        api.create("/api/v1/namespaces", {"metadata": {"name": "readonly"}}).raise_for_status()
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
        api.create(f"{rbac}/roles", {"metadata": {"name": "look"}, "rules": rules})
        api.create(f"{rbac}/rolebindings", {
            "metadata": {"name": "look"},
            "roleRef": {"kind": "Role", "name": "look"},
            "subjects": [{"kind": "User", "name": "reader"}],
        })  # fmt: skip
        api.create(path, {"metadata": {"name": "a", "finalizers": [OURS]}}).raise_for_status()
        api.delete(f"{path}/a").raise_for_status()
        user = {"token": real_server.token, "as": "reader", "as-groups": ["system:authenticated"]}
        insecure: Any = {"insecure-skip-tls-verify": True}
        file = kubeconfig(tmp_path / "reader", real_server.url, user, **insecure)
        arguments = ["release", OURS, "cm/a", "--yes", "-n"]
        wait_until(lambda: run("holders", "cm", "-n", "readonly", on=file).exit_code == 1)
        result = run(*arguments, "readonly", on=file)
        assert result.exit_code == 1
        assert "configmaps/a in readonly: refused: 403 Forbidden: " in result.stdout
        unseen = run(*arguments, "default", on=file)
        assert unseen.exit_code == 2
        assert "Not seen: configmaps/a in default" in unseen.stderr
        hidden = run("release", OURS, "--all-stuck", "cm", "-n", "default", "--yes", on=file)
        assert hidden.exit_code == 2
        assert maps.plural in hidden.stderr
        api.json_patch(f"{path}/a", [{"op": "remove", "path": "/metadata/finalizers"}])


def test_a_cluster_that_breaks_off_leaves_it_undone(tmp_path: Path) -> None:
    """Whether the patch has arrived is not known, and it can be run again."""
    metadata = {
        "name": "a", "namespace": "shop", "uid": "1", "resourceVersion": "1",
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [OURS],
    }  # fmt: skip
    path = "/apis/example.com/v1/namespaces/shop/things/a"
    answers = {**DISCOVERY, path: [{"metadata": metadata}, "<html>"]}
    with scripted(**answers) as server:
        result = run("release", OURS, "things/a", "--yes", on=server.kubeconfig(tmp_path))
    assert result.exit_code == 1
    assert "not done: PATCH " in result.stdout


def test_the_list_is_never_sent_as_a_whole(tmp_path: Path) -> None:
    """One entry is taken out where it stands, of the object that was shown."""
    metadata = {
        "name": "a", "namespace": "shop", "uid": "1", "resourceVersion": "1",
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [THEIRS, OURS, "a.org/a"],
    }  # fmt: skip
    path = "/apis/example.com/v1/namespaces/shop/things/a"
    answers = {**DISCOVERY, path: {"metadata": metadata}}
    with scripted(**answers) as server:
        run("release", OURS, "things/a", "--yes", on=server.kubeconfig(tmp_path))
    written = [one for one in server.asked if one.method != "GET"]
    assert {one.headers["content-type"] for one in written} == {"application/json-patch+json"}
    operations = [operation for one in written for operation in one.body]
    assert {"op": "test", "path": "/metadata/uid", "value": "1"} in operations
    changes = [one for one in operations if one["op"] != "test"]
    assert {(one["op"], one["path"]) for one in changes} == {("remove", "/metadata/finalizers/1")}


# What stays undone


def test_what_stays_undone_is_said_in_the_operators_words(
    server: Server, api: Api, resource: Resource, inside: list[str], tmp_path: Path
) -> None:
    """One cleanup for a dedicated finalizer; all of them for the operator's own."""
    names = [OURS, BACKUPS, f"{OURS}.dns", THEIRS]
    stuck(api, resource, "a", *names)
    arguments = [
        "things/a",
        "--dry-run=client",
        "--operator",
        str(operator_file(tmp_path)),
        *inside,
    ]

    def said(name: str) -> str:
        return run("release", name, *arguments, on=server).stderr

    backups = (
        "  drop_backups to succeed, or to be given up (Drops the backups.);"
        " what stays behind: the backups\n"
    )
    heading = "On things.example.com nobody waits any more for:\n"
    assert heading + backups in said(BACKUPS)
    assert "watch" not in said(BACKUPS)
    assert "  the daemon watch to stop\n" in said(OURS)
    assert backups in said(OURS)
    assert f"No handler of {OURS} serves it on things.example.com: nothing is undone.\n" in said(
        f"{OURS}.dns"
    )
    assert "Its owner on things.example.com: not known; --operator FILE" in said(THEIRS)


def test_many_objects_are_not_all_shown_before(
    server: Server, api: Api, resource: Resource, inside: list[str]
) -> None:
    """Twenty of them, and how many more there are; each has its outcome."""
    for number in range(23):
        stuck(api, resource, f"a{number}", OURS)
    result = run("release", OURS, "--all-stuck", "things", "--yes", *inside, on=server)
    assert "  and 3 more\n" in result.stderr
    assert result.stdout.count(": released\n") == 23


# Interrupted


@pytest.fixture
def many(in_process_server: ApiServer) -> Iterator[list[str]]:
    """Two thousand objects that are stuck, and the arguments that release them."""
    in_process_server.define("many.example.com", "v1", "manies", kind="Many", namespaced=False)
    path = "/apis/many.example.com/v1/manies"
    for number in range(2000):
        metadata = {"name": f"a{number}", "finalizers": [OURS]}
        body = {"apiVersion": "many.example.com/v1", "kind": "Many", "metadata": metadata}
        in_process_server.call("POST", path, body)
        in_process_server.call("DELETE", f"{path}/a{number}")
    yield ["release", OURS, "--all-stuck", "manies", "--yes"]
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    in_process_server.call("DELETE", f"{crds}/manies.many.example.com")


def test_thousands_of_objects_take_a_request_each_whatever_interrupts(
    in_process_server: ApiServer, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C it is said what is done and what is not, and a second run does the rest.

    Then one is killed, which says nothing any more, and the last run ends it.
    """
    released = Releasing.release

    def interrupted(self: Releasing, one: Target, name: str, stop: threading.Event) -> Outcome:
        if one.metadata["name"] == "a804":
            os.kill(os.getpid(), signal.SIGINT)
            stop.wait(30)
        return released(self, one, name, stop)

    before = len(in_process_server.requests)
    with monkeypatch.context() as patched:
        patched.setattr(Releasing, "release", interrupted)
        result = run(*many, on=in_process_server)
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 2000
    done = {line.partition(":")[0] for line in lines if line.endswith(": released")}
    undone = {line.partition(":")[0] for line in lines if line.endswith(": not done")}
    assert len(done) + len(undone) == 2000
    assert done
    assert undone
    assert result.stderr.endswith(
        "Interrupted. What is not done can be done by the same command.\n"
    )
    path = "/apis/many.example.com/v1/manies"
    there = {one["metadata"]["name"] for one in in_process_server.call("GET", path)["items"]}
    assert {f"manies.many.example.com/{name}" for name in there} == undone

    process = subprocess.Popen(
        [sys.executable, "-m", "kopf_finalizers", *many,
         "--kubeconfig", str(in_process_server.kubeconfig)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert run(*many, on=in_process_server).exit_code == 0
    assert in_process_server.call("GET", path)["items"] == []
    asked = [one for one in in_process_server.requests[before:] if "many.example" in one.path]
    patches = [one for one in asked if one.method == "PATCH"]
    assert 2000 <= len(patches) <= 2010  # the killed one may have sent some of its last ones
    assert len(asked) < 2 * 2000
