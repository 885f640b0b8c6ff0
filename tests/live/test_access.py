"""Logging in to a cluster: whatever kubectl takes, with real processes and real servers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from kopf_finalizers._cluster.access import Cluster, ClusterError, RefusedError

from ..support.commands import DISCOVERY, Scripted, kubeconfig, run, scripted
from ..support.servers import KubeApiServer, free_port

INSECURE = {"insecure-skip-tls-verify": True}
EMPTY: dict[str, Any] = {"items": []}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a kubeconfig, on a machine that is no pod."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def plugin(folder: Path, *, version: str, status: dict[str, Any], fails: bool = False) -> Any:
    """A plugin for logging in, as EKS, GKE and AKS have one."""
    file = folder / "plugin"
    answer = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "kind": "ExecCredential",
        "status": status,
    }
    (folder / "answer.json").write_text(json.dumps(answer))
    end = "echo no such profile >&2; exit 3" if fails else f"cat {folder / 'answer.json'}"
    file.write_text(f"#!/bin/sh\necho called >> {folder / 'calls'}\n{end}\n")
    file.chmod(0o755)
    return {
        "exec": {
            "apiVersion": f"client.authentication.k8s.io/{version}",
            "command": str(file),
            "interactiveMode": "Never",
            "provideClusterInfo": True,
        }
    }


@pytest.mark.parametrize("version", ["v1beta1", "v1"])
def test_a_plugin_gives_the_token(real_server: KubeApiServer, home: Path, version: str) -> None:
    """As in the clusters of the large providers."""
    user = plugin(home, version=version, status={"token": real_server.token})
    file = kubeconfig(home / "config", real_server.url, user, **INSECURE)
    with Cluster(kubeconfig=str(file)) as cluster:
        assert cluster.get("/api/v1/namespaces/default")["kind"] == "Namespace"
        assert (cluster.namespace, cluster.context) == ("shop", "test")


def test_a_plugin_that_fails_is_named_with_its_words(home: Path) -> None:
    """And nothing is asked of the cluster without a login."""
    user = plugin(home, version="v1", status={}, fails=True)
    file = kubeconfig(home / "config", "https://127.0.0.1:1", user)
    with pytest.raises(ClusterError, match=r"plugin .*/plugin, .* has failed: .*no such profile"):
        Cluster(kubeconfig=str(file))


def test_a_token_in_a_file_is_read(real_server: KubeApiServer, home: Path) -> None:
    """As `tokenFile` says."""
    (home / "token").write_text(real_server.token)
    file = kubeconfig(
        home / "config", real_server.url, {"tokenFile": str(home / "token")}, **INSECURE
    )
    with Cluster(kubeconfig=str(file)) as cluster:
        assert cluster.get("/api/v1/namespaces/default")["kind"] == "Namespace"


def test_a_client_certificate_is_enough(real_server: KubeApiServer, home: Path) -> None:
    """By the path of its files, which are beside the kubeconfig."""
    if not real_server.client_certificate:
        pytest.skip("cryptography is not installed, which makes the certificates")
    certificate, key = real_server.client_certificate
    (home / "a.crt").write_bytes(certificate.read_bytes())
    (home / "a.key").write_bytes(key.read_bytes())
    user = {"client-certificate": "a.crt", "client-key": "a.key"}
    file = kubeconfig(home / "config", real_server.url, user, **INSECURE)
    with Cluster(kubeconfig=str(file)) as cluster:
        assert cluster.get("/api/v1/namespaces/default")["kind"] == "Namespace"


def test_who_is_to_be_acted_as_is_acted_as(real_server: KubeApiServer, home: Path) -> None:
    """An administrator who has written `as:` into the kubeconfig may then do less."""
    user = {
        "token": real_server.token,
        "as": "nobody",
        "as-groups": ["a", "b"],
        "as-user-extra": {"reason": ["test"]},
    }
    file = kubeconfig(home / "config", real_server.url, user, **INSECURE)
    with Cluster(kubeconfig=str(file)) as cluster, pytest.raises(RefusedError) as refused:
        cluster.get("/api/v1/namespaces/default")
    assert refused.value.status == 403
    assert '"nobody"' in refused.value.words


def test_of_several_files_the_first_says_which_context_is_the_current_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for kubectl: else a finalizer would be released in another cluster."""
    with scripted(**{"/a": {"kind": "First"}}) as one, scripted(**{"/a": {}}) as two:
        first = kubeconfig(home / "one", one.url, {"token": "1"})
        second = kubeconfig(home / "two", two.url, {"token": "2"})
        second.write_text(second.read_text().replace("test", "other"))
        monkeypatch.setenv("KUBECONFIG", f"{home / 'missing'}:{first}:{second}")
        with Cluster() as cluster:
            assert cluster.get("/a") == {"kind": "First"}
        with Cluster(context="other") as cluster:
            assert cluster.get("/a") == {}
    assert two.asked[0].headers["authorization"] == "Bearer 2"


def test_a_proxy_of_the_kubeconfig_is_used(home: Path) -> None:
    """The request goes to the proxy, with the address of the cluster in it."""
    with scripted(**{"/a": {"kind": "Proxied"}}) as proxy:
        file = kubeconfig(home / "config", "http://nowhere.test", {}, **{"proxy-url": proxy.url})
        with Cluster(kubeconfig=str(file)) as cluster:
            assert cluster.get("/a") == {"kind": "Proxied"}


def test_a_pod_logs_in_with_its_service_account(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no kubeconfig: in the hook of a chart, say."""
    account = home / "serviceaccount"
    account.mkdir()
    for name, text in {"token": "of the pod", "namespace": "shop\n"}.items():
        (account / name).write_text(text)
    from kubernetes.config import incluster_config

    def load(client_configuration: Any) -> None:
        loader = incluster_config.InClusterConfigLoader(
            token_filename=str(account / "token"),
            cert_filename=str(account / "ca.crt"),
            environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"},
        )
        loader.load_and_set(client_configuration)

    (account / "ca.crt").write_text("of the cluster")
    monkeypatch.setattr("kubernetes.config.load_incluster_config", load)
    monkeypatch.setattr("kopf_finalizers._cluster.access._SERVICE_ACCOUNT", account)
    from kubernetes.client import Configuration

    from kopf_finalizers._cluster.access import _identified

    configuration = Configuration()
    assert _identified(configuration, None, None) == ("shop", "the cluster of this pod", [])
    assert configuration.host == "https://10.0.0.1:443"
    (authorization,) = configuration.auth_settings().values()
    assert isinstance(authorization, dict)
    assert authorization["value"].lower() == "bearer of the pod"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kubeconfig": "/nowhere"}, "no way into a cluster: /nowhere is not there"),
        ({"context": "there"}, "~/.kube/config is not there"),
        ({}, "this is no pod with a service account"),
    ],
)
def test_where_there_is_no_way_in_it_is_said_why(
    home: Path, arguments: dict[str, str], said: str
) -> None:
    """In one line, and not as a traceback."""
    with pytest.raises(ClusterError, match=said):
        Cluster(**arguments)


@pytest.mark.parametrize("text", ["a: [", "just words", ""])
def test_a_file_that_is_no_kubeconfig_is_named(home: Path, text: str) -> None:
    """Broken YAML, other text, nothing."""
    (home / "config").write_text(text)
    result = run("holders", on=home / "config")
    assert result.exit_code == 2
    assert str(home / "config") in result.output
    assert result.output.count("\n") == 1


def test_a_context_that_is_not_there_is_named(home: Path) -> None:
    """As kubectl does."""
    file = kubeconfig(home / "config", "http://127.0.0.1:1", {})
    result = run("holders", "--context", "nosuch", on=file)
    assert result.exit_code == 2
    assert "nosuch" in result.output


def test_a_cluster_that_cannot_be_reached_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its address, after a few attempts."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    url = f"http://127.0.0.1:{free_port()}"
    result = run("holders", on=kubeconfig(home / "config", url, {}))
    assert result.exit_code == 2
    assert f"{url} cannot be reached" in result.output


# Answers of a cluster


def cluster_of(server: Scripted, home: Path, **user: Any) -> Cluster:
    return Cluster(kubeconfig=str(server.kubeconfig(home, **user)))


def test_a_login_that_has_run_out_is_renewed_once(home: Path) -> None:
    """A plugin is asked again when the API server says 401."""
    user = plugin(home, version="v1", status={"token": "t"})
    answers = [(401, {"reason": "Unauthorized"}), {"kind": "A"}]
    with scripted(**{"/a": answers}) as server, cluster_of(server, home, **user) as cluster:
        assert cluster.get("/a") == {"kind": "A"}
    assert (home / "calls").read_text().count("called") == 2


def test_a_login_is_renewed_once_for_all_who_wait_for_it(home: Path) -> None:
    """Many requests are under way when it runs out, and one of them asks the plugin."""
    user = plugin(home, version="v1", status={"token": "t"})
    with scripted() as server, cluster_of(server, home, **user) as cluster:
        before = cluster._session
        renewed = cluster._again(before)
        assert cluster._again(before) is renewed is not before
    assert (home / "calls").read_text().count("called") == 2


def test_a_login_that_is_refused_is_an_error(home: Path) -> None:
    """It is tried twice, and no more."""
    refusal = {"/a": (401, {"reason": "Unauthorized", "message": "Unauthorized"})}
    with scripted(**refusal) as server, cluster_of(server, home) as cluster:
        with pytest.raises(RefusedError, match="401 Unauthorized"):
            cluster.get("/a")
        assert len(server.asked) == 2


def test_a_busy_api_server_is_asked_again(home: Path) -> None:
    """As it says, with 429 and Retry-After; for a patch, too."""
    answers = [(429, {"reason": "TooManyRequests"}), {"kind": "A"}]
    with scripted(**{"/a": answers}) as server, cluster_of(server, home) as cluster:
        assert cluster.request("PATCH", "/a", []) == {"kind": "A"}
        assert [one.method for one in server.asked] == ["PATCH", "PATCH"]


@pytest.mark.parametrize("answer", ["<html>", "[1]"])
def test_what_is_no_api_server_is_an_error(home: Path, answer: str) -> None:
    """A portal for logging in, say, which answers with a page."""
    with (
        scripted(**{"/a": answer}) as server,
        cluster_of(server, home) as cluster,
        pytest.raises(ClusterError, match="no API server"),
    ):
        cluster.get("/a")


def test_a_refusal_without_words_of_kubernetes_is_shown_as_it_came(home: Path) -> None:
    """Of a proxy in between, say; and not at any length."""
    with scripted(**{"/a": (502, "x" * 1000)}) as server, cluster_of(server, home) as cluster:
        with pytest.raises(RefusedError) as refused:
            cluster.get("/a")
        assert len(str(refused.value)) < 500


def test_an_answer_that_breaks_off_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the request, and is no traceback."""
    import urllib3

    with scripted(**{"/a": {}}) as server, cluster_of(server, home) as cluster:

        def broken(*_: Any, **__: Any) -> None:
            raise urllib3.exceptions.DecodeError("broken")

        monkeypatch.setattr(urllib3.PoolManager, "urlopen", broken)
        with pytest.raises(ClusterError, match="GET /a: broken"):
            cluster.get("/a")


def test_without_the_extra_it_is_said_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the library itself does not need it."""
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    result = run("holders")
    assert result.exit_code == 2
    assert "pip install 'kopf-finalizers[cluster]'" in result.output


def test_a_command_for_a_cluster_imports_neither_kopf_nor_its_clients(tmp_path: Path) -> None:
    """It begins at once, and stays small."""
    with scripted(**DISCOVERY, **{"/apis/example.com/v1/things": EMPTY}) as server:
        code = (
            "import sys\nfrom kopf_finalizers._cli import main\n"
            "try:\n    main(['holders'])\nfinally:\n    print('kopf' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"KUBECONFIG": str(server.kubeconfig(tmp_path))},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "Nothing is held.\nFalse\n"), done.stderr
