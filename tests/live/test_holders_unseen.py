"""`kopf-finalizers holders` where not all can be seen: that is named, and nothing is written."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from ..support.commands import DISCOVERY, kubeconfig, run, scripted, told
from ..support.held import made, operator_file, page
from ..support.servers import Api, KubeApiServer, Resource, client_of, wait_until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return operator_file(tmp_path)


@pytest.fixture
def limited(real_server: KubeApiServer, tmp_path: Path) -> Iterator[tuple[Path, Api, Resource]]:
    """A user who may see one namespace only."""
    with contextlib.closing(client_of(real_server)) as api:
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/own"
        api.create("/api/v1/namespaces", {"metadata": {"name": "own"}})
        rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
        api.create(f"{rbac}/roles", {"metadata": {"name": "look"}, "rules": rules})
        api.create(f"{rbac}/rolebindings", {
            "metadata": {"name": "look"},
            "roleRef": {"kind": "Role", "name": "look"},
            "subjects": [{"kind": "User", "name": "somebody"}],
        })  # fmt: skip
        user = {"token": real_server.token, "as": "somebody", "as-groups": ["system:authenticated"]}
        insecure: Any = {"insecure-skip-tls-verify": True}
        file = kubeconfig(tmp_path / "limited", real_server.url, user, **insecure)
        api.client.headers["Impersonate-User"] = "somebody"
        configmaps = "/api/v1/namespaces/own/configmaps"
        wait_until(lambda: api.get(configmaps).status_code == 200)  # rights take a moment
        del api.client.headers["Impersonate-User"]
        yield file, api, Resource("", "v1", "configmaps", "ConfigMap", "own")


def test_a_user_of_one_namespace_is_told_what_could_not_be_seen(
    limited: tuple[Path, Api, Resource],
) -> None:
    """In the namespace all is well; beyond it each kind is named, and the exit code is 2."""
    file, _, _ = limited
    inside = run("holders", "-n", "own", on=file)
    assert (inside.exit_code, inside.output) == (0, "Nothing is held.\n")
    outside = run("holders", on=file)
    assert outside.exit_code == 2
    assert outside.stdout == "Nothing that could be seen is held.\n"
    assert "configmaps, " in outside.stderr
    assert "(403 Forbidden: your user may not list them here)" in outside.stderr
    one = run("holders", "cm/a", "-n", "default", on=file)
    assert one.exit_code == 2
    assert "configmaps/a in default" in one.stderr


def test_an_api_that_is_down_is_named(real_server: KubeApiServer) -> None:
    """What an aggregated API serves cannot be known while it answers 503."""
    services = "/apis/apiregistration.k8s.io/v1/apiservices"
    name = "v1.down.example.com"
    spec = {
        "group": "down.example.com",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 1,
        "insecureSkipTLSVerify": True,
        "service": {"name": "nosuch", "namespace": "default"},
    }
    with contextlib.closing(client_of(real_server)) as api:
        api.create(services, {"metadata": {"name": name}, "spec": spec}).raise_for_status()
        try:
            wait_until(lambda: api.get("/apis/down.example.com/v1").status_code == 503)
            result = run("holders", "-n", "default", "-o", "json", on=real_server)
            assert result.exit_code == 2
            found = {one["what"]: one["status"] for one in told(result)["unseen"]}
            assert found["down.example.com/v1"] == 503
            unknown = run("holders", "things.down.example.com", on=real_server)
            assert "down.example.com/v1 could not be asked (503" in unknown.output
        finally:
            api.delete(f"{services}/{name}").raise_for_status()
            wait_until(lambda: api.get("/apis/down.example.com/v1").status_code == 404)


def compact(server: KubeApiServer) -> None:
    """Make all tokens for a next page too old: what an hour of a busy cluster does."""
    url = f"http://127.0.0.1:{server._etcd_port}/v3"
    header = httpx.post(f"{url}/kv/range", json={"key": "AA=="}).raise_for_status().json()["header"]
    revision = {"revision": header["revision"], "physical": True}
    httpx.post(f"{url}/kv/compaction", json=revision).raise_for_status()


def test_a_list_whose_next_page_is_too_old_goes_on(
    real_server: KubeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the API server says with its 410, and each object is counted once."""
    from kopf_finalizers._cluster import listing
    from kopf_finalizers._cluster.access import Cluster
    from kopf_finalizers._cluster.discovery import Resource as Listed

    monkeypatch.setattr(listing, "PAGE", 3)
    real_server.define("old.example.com", "v1", "olds")
    olds = Resource("old.example.com", "v1", "olds", "Old")
    with (
        contextlib.closing(client_of(real_server)) as api,
        Cluster(kubeconfig=str(real_server.kubeconfig)) as cluster,
    ):
        for number in range(7):
            made(api, olds, f"a{number}")
        resource = Listed("old.example.com", "v1", "olds", "Old")
        pages = listing.pages_of(cluster, resource, listing.Scope())
        found: list[Any] = [next(pages)]
        made(api, olds, "b")
        compact(real_server)
        found += pages
    names = [[one["name"] for one in page] for page in found]
    assert names == [["a0", "a1", "a2"], ["a3", "a4", "a5"], ["a6", "b"]]


EXPIRED = {"reason": "Expired", "message": "The provided continue parameter is too old"}


def test_a_list_that_cannot_go_on_begins_again(tmp_path: Path) -> None:
    """Where there is no new token: and what was counted before does not count twice."""
    things = [page("a", token="1"), (410, EXPIRED), page("a", token="2"), page("b")]
    with scripted(**DISCOVERY, **{"/apis/example.com/v1/things": things}) as server:
        result = run("holders", "-o", "json", on=server.kubeconfig(tmp_path))
    assert told(result)["finalizers"][0]["beingDeleted"] == 2
    asked = [one.query.get("continue") for one in server.asked if one.path.endswith("things")]
    assert asked == [None, "1", None, "2"]


def test_a_list_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """A cluster in which each token is too old at once is not seen."""
    things = [*[page("a", token="1"), (410, "")] * 9]
    with scripted(**DISCOVERY, **{"/apis/example.com/v1/things": things}) as server:
        result = run("holders", on=server.kubeconfig(tmp_path))
    assert result.exit_code == 2
    assert "things.example.com (410" in result.stderr


def test_a_list_that_is_null_is_empty(tmp_path: Path) -> None:
    """Some API servers write it so; and an item without metadata is nobody's object."""
    for items in (None, [{"kind": "Odd"}]):
        with scripted(**DISCOVERY, **{"/apis/example.com/v1/things": {"items": items}}) as server:
            result = run("holders", on=server.kubeconfig(tmp_path))
        assert (result.exit_code, result.output) == (0, "Nothing is held.\n")


def test_a_resource_that_went_away_meanwhile_is_named(tmp_path: Path) -> None:
    """Its definition was deleted after the cluster had said what it serves."""
    with scripted(**DISCOVERY) as server:
        result = run("holders", on=server.kubeconfig(tmp_path))
    assert result.exit_code == 2
    assert "things.example.com (it went away meanwhile (404))" in result.stderr


def test_a_cluster_that_breaks_off_is_named(tmp_path: Path) -> None:
    """What no API server has answered has no status."""
    with scripted(**DISCOVERY, **{"/apis/example.com/v1/things": "<html>"}) as server:
        result = run("holders", "-o", "json", on=server.kubeconfig(tmp_path))
    (unseen,) = told(result)["unseen"]
    assert (result.exit_code, unseen["status"]) == (2, None)


def test_what_can_be_deleted_and_not_listed_is_named(tmp_path: Path) -> None:
    """Its objects may hang, and nobody can count them."""
    kinds = [
        {"name": "hiddens", "kind": "Hidden", "verbs": ["get", "delete"]},
        {"name": "reviews", "kind": "Review", "verbs": ["create"]},
        {"name": "reviews/status", "kind": "Review", "verbs": ["get"]},
    ]
    answers = {**DISCOVERY, "/apis/example.com/v1": {"resources": kinds}}
    with scripted(**answers) as server:
        result = run("holders", on=server.kubeconfig(tmp_path))
    assert result.exit_code == 2
    assert result.stderr == (
        "Not seen: hiddens.example.com (its objects can be deleted but not listed)\n"
    )


def test_only_metadata_is_asked_for(tmp_path: Path) -> None:
    """And what serves whole objects only may send these."""
    with scripted(**DISCOVERY, **{"/apis/example.com/v1/things": page("a")}) as server:
        run("holders", on=server.kubeconfig(tmp_path))
        (listed,) = [one for one in server.asked if one.path.endswith("things")]
    assert listed.headers["accept"] == (
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    )
    assert listed.query == {"limit": "500"}
    assert {one.method for one in server.asked} == {"GET"}


def test_the_same_objects_under_two_groups_are_counted_once(real_server: KubeApiServer) -> None:
    """An event is in the group of events, too; an ingress in the one before."""
    found = told(run("holders", "events,ingresses", "-o", "json", on=real_server))
    assert found["unseen"] == []
    from kopf_finalizers._cluster.access import Cluster
    from kopf_finalizers._cluster.discovery import discover

    with Cluster(kubeconfig=str(real_server.kubeconfig)) as cluster:
        names = [one.name for one in discover(cluster).listed()]
    assert "events" in names
    assert "events.events.k8s.io" not in names
    assert "ingresses.networking.k8s.io" in names
    assert "ingresses.extensions" not in names
    assert len(names) == len(set(names))


def test_it_never_writes(in_process_server: Any, file: Path) -> None:
    """Whatever it is asked."""
    before = len(in_process_server.requests)
    run("holders", "-o", "wide", "--operator", str(file), on=in_process_server)
    run("holders", "ns/default", on=in_process_server)
    asked = in_process_server.requests[before:]
    assert {one.method for one in asked} == {"GET"}
