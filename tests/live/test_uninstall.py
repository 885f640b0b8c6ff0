"""`kopf-finalizers uninstall`: an operator out of a cluster, and nothing hangs afterwards."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from kopf_finalizers._cluster.changing import Outcome, Target
from kopf_finalizers._cluster.uninstalling import Uninstalling

from ..support.commands import DISCOVERY, kubeconfig, run, scripted
from ..support.operators import OperatorProcess
from ..support.servers import Api, KubeApiServer, Resource, Server, client_of, wait_until

OURS = "mycompany.com/db-operator"
BACKUPS = f"{OURS}.backups"
THEIRS = "other.org/f"
PREFIX = "db-operator.mycompany.com"
OPERATOR = """
import kopf
import kopf_finalizers

finalizers = kopf_finalizers.configure("mycompany.com", "db-operator")

@finalizers.on.delete("GROUP", "v1", "ones", finalizer="backups")
def drop_backups(**_): ...

@kopf.on.delete("GROUP", "v1", "twos")
def drop_two(**_): ...

@finalizers.on.create("Three.v1.GROUP", finalizer="dns")
def make_three(**_): ...
"""
GONE = [{"op": "remove", "path": "/metadata/finalizers"}]

_numbers = itertools.count()


@dataclass
class Place:
    """Three kinds of objects that nobody else has, and the operator that handles them."""

    server: Server
    api: Api
    kinds: list[Resource]
    file: Path

    def made(self, kind: int, name: str, *finalizers: str, **metadata: Any) -> None:
        body = self.kinds[kind].body(name, finalizers=list(finalizers), **metadata)
        self.api.create(self.kinds[kind].path, body).raise_for_status()

    def stuck(self, kind: int, name: str, *finalizers: str, **metadata: Any) -> None:
        self.made(kind, name, *finalizers, **metadata)
        self.api.delete(self.kinds[kind].path_to(name)).raise_for_status()

    def metadata(self, kind: int, name: str) -> Any:
        answer = self.api.get(self.kinds[kind].path_to(name))
        return None if answer.status_code == 404 else answer.json()["metadata"]

    def finalizers(self, kind: int, name: str) -> Any:
        return (self.metadata(kind, name) or {}).get("finalizers", [])

    def run(self, *arguments: str, yes: bool = True) -> Any:
        options = ["--yes", "--settle", "0s"] if yes else []
        return run("uninstall", str(self.file), *options, *arguments, on=self.server)


@pytest.fixture
def place(server: Server, api: Api, tmp_path: Path) -> Place:
    """A group of its own for each test."""
    group = f"u{next(_numbers)}.example.com"
    names = {"ones": "One", "twos": "Two", "threes": "Three"}
    for plural, kind in names.items():
        server.define(group, "v1", plural, kind=kind)
    file = tmp_path / "db_operator.py"
    file.write_text(OPERATOR.replace("GROUP", group))
    kinds = [Resource(group, "v1", plural, kind) for plural, kind in names.items()]
    return Place(server, api, kinds, file)


@pytest.fixture
def operator(place: Place, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator, at work."""
    with OperatorProcess(
        place.file, place.server, tmp_path / "log", resource=place.kinds[0]
    ) as process:
        yield process


# The plan


def test_without_an_option_the_plan_is_printed(place: Place) -> None:
    """For each resource that a handler names, in whatever way: and nothing is changed."""
    place.made(0, "a", OURS, BACKUPS)
    place.made(0, "b", THEIRS)
    place.stuck(0, "c", f"{OURS}.dropped")
    place.made(2, "d")
    result = place.run(yes=False)
    assert result.exit_code == 1
    first, head, *rows = result.stdout.splitlines()
    assert first.startswith(f"{OURS} in ")
    group = place.kinds[0].group
    assert head.split("   ")[0] == "RESOURCE"
    assert [row.split() for row in rows] == [
        [f"ones.{group}", "2", "1", "2", "1"],
        [f"threes.{group}", "1", "0", "0", "0"],
        [f"twos.{group}", "0", "0", "0", "0"],
    ]
    assert place.finalizers(0, "a") == [OURS, BACKUPS]


def test_a_cluster_without_anything_of_it_is_clean(place: Place) -> None:
    """And each way says that there is nothing to do."""
    assert place.run(yes=False).exit_code == 0
    for way in ("--release", "--delete"):
        result = place.run(way)
        assert result.exit_code == 0
        assert f"There is nothing to {way.removeprefix('--')}." in result.stderr


def test_a_cluster_that_serves_none_of_it_is_clean(server: Server, tmp_path: Path) -> None:
    """The definitions are gone, and the objects with them."""
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.replace("GROUP", "nosuch.example.com"))
    result = run("uninstall", str(file), on=server)
    assert result.exit_code == 0
    assert result.output == f"The cluster serves nothing that {OURS} handles.\n"


def test_it_wants_an_operator_and_its_own_resources(place: Place) -> None:
    """And says so where it gets something else."""
    assert "Name the operator's files" in run("uninstall", on=place.server).output
    other = place.run("--resource", "namespaces")
    assert other.exit_code == 2
    assert "No handler of the operator is for namespaces." in other.output
    assert "--annotations goes with --release." in place.run("--annotations").output


# --release


def test_release_lets_objects_live_on_without_the_operator(place: Place) -> None:
    """All own names go, of all kinds and of dropped handlers; everybody else's stay."""
    place.made(0, "a", THEIRS, OURS, BACKUPS, f"{OURS}.dropped", annotations={f"{PREFIX}/x": "1"})
    place.made(1, "b", OURS)
    place.made(2, "c", f"{OURS}.dns", THEIRS)
    place.made(2, "d", THEIRS)
    result = place.run("--release")
    assert result.exit_code == 0, result.output
    assert result.stdout.count(": released\n") == 3
    assert "Of 3 objects: 3 released.\n" in result.stderr
    assert result.stderr.endswith("Nothing of it is left.\n")
    assert place.finalizers(0, "a") == [THEIRS]
    assert place.finalizers(1, "b") == []
    assert place.finalizers(2, "c") == [THEIRS]
    assert place.metadata(0, "a")["annotations"] == {f"{PREFIX}/x": "1"}
    place.api.delete(place.kinds[1].path_to("b")).raise_for_status()
    assert place.metadata(1, "b") is None


def test_annotations_go_when_that_is_asked_for(place: Place) -> None:
    """The operator's own, under its prefix, and nobody else's."""
    annotations = {f"{PREFIX}/x": "1", f"{PREFIX}/last-handled-configuration": "{}", "a.org/x": "1"}
    place.made(0, "a", annotations=annotations)
    place.made(1, "b", OURS, annotations=annotations)
    assert place.run("--release", "--annotations").exit_code == 0
    for kind, name in ((0, "a"), (1, "b")):
        assert place.metadata(kind, name)["annotations"] == {"a.org/x": "1"}
    assert place.finalizers(1, "b") == []


def test_former_names_and_records_go_too(place: Place) -> None:
    """Unless another operator has the same: and what users keep beside stays."""
    marker, former = "kopf.zalando.org/KopfFinalizerMarker", "kopf.zalando.org"
    annotations = {f"{former}/last-handled-configuration": "{}", f"{former}/team": "a",
                   f"{former}/handler": '{"started": "2026-01-01T00:00:00"}'}  # fmt: skip
    place.made(0, "a", marker, annotations=annotations)
    text = place.file.read_text()
    for shared in (", former_is_shared=True", ""):
        options = f'"db-operator", former=["{marker}"]{shared})'
        place.file.write_text(text.replace('"db-operator")', options))
        assert place.run("--release", "--annotations").exit_code == 0
        expected = annotations if shared else {f"{former}/team": "a"}
        assert place.metadata(0, "a").get("annotations", {}) == expected
        assert place.finalizers(0, "a") == ([marker] if shared else [])


def test_what_is_being_deleted_is_never_released(place: Place) -> None:
    """Its cleanups are due: that is said, and the exit code is 1."""
    place.stuck(0, "a", OURS, BACKUPS)
    result = place.run("--release")
    assert result.exit_code == 1
    assert "left: it is being deleted, and its cleanups are due" in result.stdout
    assert "Let the operator do them, or release them by hand." in result.stderr
    assert place.finalizers(0, "a") == [OURS, BACKUPS]


def test_what_is_deleted_meanwhile_is_not_released(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even between the look and the patch: the API server itself tests it."""
    place.made(0, "a", OURS)

    def delete(*_: Any, **__: Any) -> None:
        place.api.delete(place.kinds[0].path_to("a")).raise_for_status()

    monkeypatch.setattr("kopf_finalizers._cli.changes.confirm", delete)
    result = place.run("--release")
    assert result.exit_code == 1
    assert "left: it is being deleted by now, and its cleanups are due" in result.stdout
    assert place.finalizers(0, "a") == [OURS]


def test_another_object_under_the_name_keeps_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither released nor deleted, and the second look finds it."""
    place.made(0, "a", OURS, annotations={f"{PREFIX}/x": "1"})
    place.made(1, "b", annotations={f"{PREFIX}/x": "1"})

    def replace(*_: Any, **__: Any) -> None:
        for kind, name in ((0, "a"), (1, "b")):
            place.api.merge_patch(
                place.kinds[kind].path_to(name), {"metadata": {"finalizers": None}}
            ).raise_for_status()
            place.api.delete(place.kinds[kind].path_to(name)).raise_for_status()
            place.made(kind, name, OURS, annotations={f"{PREFIX}/x": "1"})

    monkeypatch.setattr("kopf_finalizers._cli.changes.confirm", replace)
    result = place.run("--release", "--annotations")
    assert result.stdout.count(": gone\n") == 2
    assert result.exit_code == 1
    assert "it came back" not in result.stdout
    deleted = place.run("--delete", "--timeout", "0s")
    assert deleted.stdout.count(": gone\n") == 2
    assert place.finalizers(0, "a") == [OURS]
    assert "deletionTimestamp" not in place.metadata(0, "a")


def test_what_vanishes_meanwhile_is_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is as good as released."""
    place.made(0, "a", annotations={f"{PREFIX}/x": "1"})

    def delete(*_: Any, **__: Any) -> None:
        place.api.delete(place.kinds[0].path_to("a")).raise_for_status()

    monkeypatch.setattr("kopf_finalizers._cli.changes.confirm", delete)
    result = place.run("--release", "--annotations")
    assert (result.exit_code, result.stdout.splitlines()[-1].rpartition(": ")[2]) == (0, "gone")


def test_annotations_that_change_meanwhile_are_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is gone by then, and the patch for both is refused."""
    place.made(0, "a", annotations={f"{PREFIX}/x": "1", f"{PREFIX}/y": "1"})

    def change(*_: Any, **__: Any) -> None:
        body = {"metadata": {"annotations": {f"{PREFIX}/x": None}}}
        place.api.merge_patch(place.kinds[0].path_to("a"), body).raise_for_status()

    monkeypatch.setattr("kopf_finalizers._cli.changes.confirm", change)
    assert place.run("--release", "--annotations").exit_code == 0
    assert place.metadata(0, "a").get("annotations", {}) == {}


def test_an_operator_that_is_still_running_is_noticed(
    place: Place, operator: OperatorProcess
) -> None:
    """Its names come back, and that is said; when it is stopped they stay away."""
    place.made(0, "a")
    wait_until(lambda: BACKUPS in place.finalizers(0, "a"), what=operator.output())
    result = place.run("--release", "--settle", "20s")
    assert result.exit_code == 1
    assert "the operator is still running. Stop it, and run this again." in result.stderr
    operator.stop()
    assert place.run("--release", "--settle", "1s").exit_code == 0
    assert place.finalizers(0, "a") == []


# --delete


def test_delete_takes_all_objects_of_three_kinds_away(
    place: Place, operator: OperatorProcess
) -> None:
    """While the operator runs and does its cleanups; then nothing hangs, and it can go."""
    for kind, name in ((0, "a"), (1, "b"), (2, "c")):
        place.made(kind, name)
    wait_until(lambda: BACKUPS in place.finalizers(0, "a"), what=operator.output())
    wait_until(lambda: OURS in place.finalizers(1, "b"), what=operator.output())
    wait_until(lambda: f"{OURS}.dns" in place.finalizers(2, "c"), what=operator.output())
    result = place.run("--delete", "--timeout", "60s")
    assert result.exit_code == 0, result.output
    assert result.stdout.count(": being deleted\n") == 3
    assert result.stderr.endswith("All 3 objects are gone.\n")
    assert place.run(yes=False).exit_code == 0


def test_delete_says_who_holds_what_is_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the operator does not run, say, or somebody else holds an object."""
    monkeypatch.setattr("kopf_finalizers._cli.uninstall.POLL", 0.5)
    place.made(0, "a", BACKUPS)
    place.stuck(1, "b", THEIRS)
    result = place.run("--delete", "--timeout", "1s")
    assert result.exit_code == 1
    assert "2 of 2 objects are not gone. They are held by:\n" in result.stdout
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()[-2:]}
    assert rows == {BACKUPS: "served", THEIRS: "other"}
    assert "What one of them waits for: kopf-finalizers holders " in result.stderr


def test_what_is_kubernetes_own_is_deleted_only_by_name(server: Server, api: Api, tmp_path: Path,
                                                        ) -> None:  # fmt: skip
    """An operator that handles namespaces does not own them."""
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.replace("GROUP", "nosuch.example.com") + (
        "\n@kopf.on.delete('namespaces')\ndef drop_space(**_): ...\n"
    ))  # fmt: skip
    api.create("/api/v1/namespaces", {"metadata": {"name": "kept", "labels": {"u": "1"}}})
    arguments = ["uninstall", str(file), "--delete", "--yes", "-l", "u=1", "--timeout", "0s"]
    result = run(*arguments, on=server)
    assert result.exit_code == 0
    assert "namespaces is left as it is: it is Kubernetes' own" in result.stderr
    assert "deletionTimestamp" not in api.get("/api/v1/namespaces/kept").json()["metadata"]
    named = run(*arguments, "--resource", "ns", on=server)
    assert "namespaces/kept: being deleted\n" in named.stdout


def test_what_no_handler_names_is_deleted_only_by_name(place: Place) -> None:
    """An operator that handles whatever there is does not own all that there is."""
    group = place.kinds[0].group
    place.file.write_text(
        OPERATOR.replace("GROUP", group).replace(f'"{group}", "v1", "twos"', "kopf.EVERYTHING")
    )
    place.made(1, "b", labels={"u": group})
    result = place.run("--delete", "-l", f"u={group}", "--timeout", "0s")
    assert result.exit_code == 0
    assert f"twos.{group} is left as it is: no handler names it" in result.stderr
    assert "There is nothing to delete." in result.stderr
    hook = place.run("--format", "helm-hook", yes=False).stdout
    assert "resources: [ones, threes]" in hook
    named = place.run("--delete", "--resource", f"twos.{group}", "--timeout", "0s")
    assert named.exit_code == 0
    assert place.metadata(1, "b") is None
    hook = place.run("--format", "helm-hook", "--resource", f"twos.{group}", yes=False).stdout
    assert "resources: [twos]" in hook
    assert '"--resource"' in hook


# How it asks, and what it may


@pytest.mark.parametrize("way", ["--release", "--delete"])
def test_it_asks_before_it_changes_anything(place: Place, way: str) -> None:
    """A dry run of the client does not even ask."""
    place.made(0, "a", OURS)
    refused = place.run(way, yes=False)
    assert refused.exit_code == 2
    assert "run it again with --yes" in refused.stderr
    dry = place.run(way, "--dry-run=client", yes=False)
    assert (dry.exit_code, dry.stderr) == (0, "Nothing was changed (client dry run).\n")
    assert "deletionTimestamp" not in place.metadata(0, "a")
    assert place.finalizers(0, "a") == [OURS]


def test_a_dry_run_of_the_server_changes_nothing(
    real_server: KubeApiServer, tmp_path: Path
) -> None:
    """The API server says what it would do."""
    with contextlib.closing(client_of(real_server)) as api:
        group = f"u{next(_numbers)}.dry.example.com"
        real_server.define(group, "v1", "ones", kind="One")
        one = Resource(group, "v1", "ones", "One")
        api.create(one.path, one.body("a", finalizers=[OURS])).raise_for_status()
        file = tmp_path / "operator.py"
        file.write_text(OPERATOR.replace("GROUP", group))
        before = api.get(one.path_to("a")).json()
        for way, said in (("--release", "released"), ("--delete", "being deleted")):
            result = run("uninstall", str(file), way, "--dry-run=server", on=real_server)
            assert result.exit_code == 0, result.output
            assert f"ones.{group}/a in default: {said} (server dry run)\n" in result.stdout
            assert api.get(one.path_to("a")).json() == before


@pytest.mark.parametrize("way", ["release", "delete"])
def test_interrupted_it_says_what_is_not_done_and_a_second_run_does_it(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real Ctrl-C in the middle."""
    for number in range(30):
        place.made(0, f"a{number:02}", OURS if way == "release" else THEIRS)
    real = getattr(Uninstalling, way)

    def interrupted(self: Uninstalling, one: Target, stop: threading.Event) -> Outcome:
        if one.metadata["name"] == "a12":
            os.kill(os.getpid(), signal.SIGINT)
            stop.wait(30)
        return real(self, one, stop)  # type: ignore[no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(Uninstalling, way, interrupted)
        result = place.run(f"--{way}")
    assert result.exit_code == 2
    assert ": not done\n" in result.stdout
    assert "Interrupted. What is not done can be done by the same command.\n" in result.stderr
    again = place.run(f"--{way}", "--timeout", "0s")
    assert again.exit_code == (0 if way == "release" else 1)
    for number in range(30):
        name = f"a{number:02}"
        if way == "release":
            assert place.finalizers(0, name) == []
        else:
            assert "deletionTimestamp" in place.metadata(0, name)


def test_a_cluster_that_refuses_or_breaks_off_is_told(tmp_path: Path) -> None:
    """Each object with its own words, and the exit code is that of the second look."""
    file = tmp_path / "operator.py"
    file.write_text("""
import kopf, kopf_finalizers
finalizers = kopf_finalizers.configure("mycompany.com", "db-operator")
@finalizers.on.delete("example.com", "v1", "things")
def drop(**_): ...
""")

    def item(name: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
                    "finalizers": [THEIRS], "annotations": {f"{PREFIX}/x": "1"}}  # fmt: skip
        return {"metadata": metadata}

    forbidden = (403, {"reason": "Forbidden", "message": "no"})
    invalid = (422, {"reason": "Invalid", "message": "never"})
    base = "/apis/example.com/v1/namespaces/shop/things"
    answers = {
        **DISCOVERY,
        "/apis/example.com/v1/things": {"items": [item(name) for name in "abc"]},
        f"{base}/a": forbidden,
        f"{base}/b": "<html>",
        f"{base}/c": [part for _ in range(9) for part in (invalid, item("c"))],
    }
    arguments = ["uninstall", str(file), "--yes"]
    with scripted(**answers) as server:
        released = run(*arguments, "--release", "--annotations", "--settle", "0s",
                       on=server.kubeconfig(tmp_path))  # fmt: skip
        deleted = run(*arguments, "--delete", "--timeout", "0s", on=server.kubeconfig(tmp_path))
    assert released.exit_code == deleted.exit_code == 1
    assert "a in shop: refused: 403 Forbidden: no\n" in released.stdout
    assert "b in shop: not done: PATCH " in released.stdout
    assert "c in shop: refused: never\n" in released.stdout
    assert "a in shop: refused: 403 Forbidden: no\n" in deleted.stdout
    assert "b in shop: not done: DELETE " in deleted.stdout


def test_what_cannot_be_seen_is_named(tmp_path: Path) -> None:
    """And is no clean end."""
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.replace("GROUP", "example.com").replace("ones", "things"))
    forbidden = (403, {"reason": "Forbidden", "message": "no"})
    with scripted(**DISCOVERY, **{"/apis/example.com/v1/things": forbidden}) as server:
        for way in ([], ["--release"], ["--delete"]):
            result = run("uninstall", str(file), *way, on=server.kubeconfig(tmp_path))
            assert result.exit_code == 2
            assert "Not seen: things.example.com (403 Forbidden" in result.stderr


# The hook of a chart


def rendered(hook: str) -> list[Any]:
    """What Helm makes of the hook."""
    text = hook.replace("{{ .Release.Namespace }}", "default")
    return list(yaml.safe_load_all(text.replace("{{ .Values.uninstall.image }}", "db:1")))


@pytest.mark.parametrize(
    ("options", "role", "way"),
    [([], "ClusterRole", "--delete"), (["--release", "-n", "default"], "Role", "--release")],
)
def test_the_hook_of_a_chart_is_enough_and_no_verb_too_many(
    real_server: KubeApiServer, tmp_path: Path, options: list[str], role: str, way: str
) -> None:
    """An API server takes it, and with its rights alone the command does its work."""
    group = f"u{next(_numbers)}.hook.example.com"
    for plural, kind in {"ones": "One", "twos": "Two", "threes": "Three"}.items():
        real_server.define(group, "v1", plural, kind=kind)
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.replace("GROUP", group))
    hook = run("uninstall", str(file), "--format", "helm-hook", *options, on=real_server).stdout
    account, rights, binding, job = rendered(hook)
    assert (rights["kind"], binding["kind"]) == (role, f"{role}Binding")
    assert all(one["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
               for one in (account, rights, binding, job))  # fmt: skip
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "db:1"
    command = container["args"]
    assert command[:3] == ["kopf-finalizers", "uninstall", str(file)]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rbac += "/namespaces/default" if role == "Role" else ""
    one = Resource(group, "v1", "ones", "One")
    with contextlib.closing(client_of(real_server)) as api:
        for path, body in (
            ("/api/v1/namespaces/default/serviceaccounts", account),
            (f"{rbac}/{role.lower()}s", rights),
            (f"{rbac}/{role.lower()}bindings", binding),
        ):
            api.create(path, body).raise_for_status()
        jobs = "/apis/batch/v1/namespaces/default/jobs"
        api.create(jobs, job, dryRun="All").raise_for_status()
        name = "system:serviceaccount:default:db-operator-uninstall"
        groups = ["system:serviceaccounts", "system:authenticated"]
        user = {"token": real_server.token, "as": name, "as-groups": groups}
        insecure: Any = {"insecure-skip-tls-verify": True}
        pod = kubeconfig(tmp_path / "pod", real_server.url, user, **insecure)
        api.create(one.path, one.body("a", finalizers=[BACKUPS])).raise_for_status()
        ready = ["holders", f"ones.{group}", "-n", "default"]
        wait_until(lambda: run(*ready, on=pod).exit_code == 0)  # rights take a moment
        work = run(*command[1:], "--timeout", "0s", "--settle", "0s", on=pod)
        if way == "--release":
            assert work.exit_code == 0, work.output
            verbs = {"get", "list", "patch"}
        else:
            assert work.exit_code == 1
            assert api.get(one.path_to("a")).json()["metadata"]["deletionTimestamp"]
            verbs = {"list", "delete"}
        assert {verb for rule in rights["rules"] for verb in rule["verbs"]} == verbs
        for path in (f"{rbac}/{role.lower()}bindings", f"{rbac}/{role.lower()}s"):
            api.delete(f"{path}/db-operator-uninstall").raise_for_status()
        api.delete("/api/v1/namespaces/default/serviceaccounts/db-operator-uninstall")
