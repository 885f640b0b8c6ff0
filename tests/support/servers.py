"""A real kube-apiserver for the tests, and a small client that speaks to any API server."""

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, TypeVar, Unpack

import httpx

from kopf_finalizers.testing._definitions import custom_resource_definition

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

# Runs a server for as long as its own standard input is open: so the server ends with the tests
# even when they are killed and have no say in it.
_KEEPER = """
exec 3<&0
"$@" 3<&- </dev/null & server=$!
(read -r _ <&3; kill $server) & keeper=$!
wait $server; code=$?
kill $keeper
exit $code
"""

Body = dict[str, Any]
T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, timeout: float = 30, what: str = "") -> T:
    """Ask until the answer is true, and return it; fail loudly at the deadline."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.02)
    return answer


@dataclass(frozen=True)
class Resource:
    """A kind of custom object in one namespace, and the paths to it."""

    group: str
    version: str
    plural: str
    kind: str
    namespace: str | None = "default"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @property
    def everywhere(self) -> str:
        """The collection in all namespaces."""
        return f"/apis/{self.api_version}/{self.plural}"

    @property
    def path(self) -> str:
        """The collection in this namespace."""
        inside = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"/apis/{self.api_version}{inside}/{self.plural}"

    def path_to(self, name: str, subresource: str | None = None) -> str:
        return f"{self.path}/{name}" + (f"/{subresource}" if subresource else "")

    def body(self, name: str, *, spec: Body | None = None, **metadata: Any) -> Body:
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": {"name": name, **metadata},
            "spec": spec or {},
        }

    def within(self, namespace: str | None) -> "Resource":
        return replace(self, namespace=namespace)


@dataclass
class Watched:
    """What an independent watcher has seen so far: it grows while the watch is open."""

    events: list[tuple[str, Body]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    failure: Exception | None = None

    def types(self, name: str | None = None) -> list[str]:
        return [type_ for type_, _ in self.of(name)]

    def of(self, name: str | None = None) -> list[tuple[str, Body]]:
        """The events of one object, or all."""
        with self.changed:
            return [e for e in self.events if name in (None, e[1]["metadata"]["name"])]

    def wait_until(self, condition: Callable[["Watched"], T], *, timeout: float = 30) -> T:
        """Wait for events until the condition holds, and return what it returned."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not (answer := condition(self)):
                left = deadline - time.monotonic()
                if left <= 0 or self.failure:
                    seen = [(t, o["metadata"].get("name")) for t, o in self.events[-20:]]
                    raise TimeoutError(f"not within {timeout} s; {seen=}") from self.failure
                self.changed.wait(left)
            return answer

    def wait_for(self, type_: str, name: str, *, timeout: float = 30) -> Body:
        """Wait for an event of this type about this object, and return the object in it."""

        def found(_: "Watched") -> Body | None:
            return next((o for t, o in reversed(self.of(name)) if t == type_), None)

        found_object = self.wait_until(found, timeout=timeout)
        assert found_object is not None
        return found_object


class Api:
    """HTTP requests to an API server; every answer is returned as it came, errors too.

    Paths come from :class:`Resource`; keywords become the query.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Where threads share a client, a TLS handshake may fail: nothing is sent by then.
        transport = httpx.HTTPTransport(verify=False, trust_env=False, retries=2)
        self.client = httpx.Client(
            base_url=url, headers=headers, transport=transport, trust_env=False, timeout=30
        )

    def close(self) -> None:
        self.client.close()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        accept: str = "*/*",
        **query: Any,
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        headers = {"Accept": accept, **({"Content-Type": content_type} if content else {})}
        return self.client.request(method, path, content=content, headers=headers, params=query)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.request("GET", path, **query)

    def create(self, path: str, body: Body, **query: Any) -> httpx.Response:
        return self.request("POST", path, body, **query)

    def replace(self, path: str, body: Body, **query: Any) -> httpx.Response:
        return self.request("PUT", path, body, **query)

    def merge_patch(self, path: str, patch: Body, **query: Any) -> httpx.Response:
        return self.request("PATCH", path, patch, content_type=MERGE_PATCH, **query)

    def json_patch(self, path: str, patch: list[Body], **query: Any) -> httpx.Response:
        return self.request("PATCH", path, patch, content_type=JSON_PATCH, **query)

    def apply(self, path: str, body: Body, *, manager: str, **query: Any) -> httpx.Response:
        """Server-side apply, with force unless told otherwise."""
        query = {"fieldManager": manager, "force": "true", **query}
        return self.request("PATCH", path, body, content_type=APPLY_PATCH, **query)

    def delete(self, path: str, options: Body | None = None, **query: Any) -> httpx.Response:
        return self.request("DELETE", path, options, **query)

    def list(self, path: str, **query: Any) -> list[Body]:
        """The objects of a collection."""
        answer = self.get(path, **query).raise_for_status()
        return list(answer.json()["items"])

    @contextlib.contextmanager
    def watching(self, path: str, **query: Any) -> Iterator[Watched]:
        """Watch a collection in a thread of its own: from now on, unless told from where."""
        if "resourceVersion" not in query:
            listed = self.get(path).raise_for_status().json()
            query["resourceVersion"] = listed["metadata"]["resourceVersion"]
        seen = Watched()
        query = {"watch": "true", **query}
        # A client of its own: closing it is what ends the watch.
        client = httpx.Client(
            base_url=self.url,
            headers=self.client.headers,
            verify=False,
            trust_env=False,
            timeout=httpx.Timeout(30, read=None),
        )
        stop, opened, streams = threading.Event(), threading.Event(), list[httpx.Response]()

        def collect() -> None:
            """Read until told to stop: a server ends a watch that is read too slowly for it."""
            try:
                while not stop.is_set():
                    with client.stream("GET", path, params=query) as response:
                        response.raise_for_status()
                        streams.append(response)
                        opened.set()
                        for line in response.iter_lines():
                            event = json.loads(line)
                            query["resourceVersion"] = event["object"]["metadata"].get(
                                "resourceVersion", query["resourceVersion"]
                            )
                            with seen.changed:
                                seen.events.append((event["type"], event["object"]))
                                seen.changed.notify_all()
            except Exception as failure:
                with seen.changed:
                    seen.failure = None if stop.is_set() else failure
                    seen.changed.notify_all()
            finally:
                opened.set()

        with client:
            thread = threading.Thread(target=collect, daemon=True)
            thread.start()
            opened.wait()
            try:
                if seen.failure is not None:
                    raise seen.failure
                yield seen
            finally:
                stop.set()
                if streams:
                    _hang_up(streams[-1])
                thread.join(timeout=10)
                assert not thread.is_alive(), "the watch did not end"


def _hang_up(response: httpx.Response) -> None:
    """Wake the reader: closing a socket does not interrupt a thread that reads from it."""
    stream = response.extensions["network_stream"]
    with contextlib.suppress(OSError):
        stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


class Options(TypedDict, total=False):
    """What can be said of a definition, as in `ApiServer.define`."""

    kind: str
    namespaced: bool
    status: bool
    schema: Body | None
    other_versions: Sequence[str]
    short_names: Sequence[str]
    categories: Sequence[str]


class Server(Protocol):
    """What the in-process server and the real one have in common."""

    @property
    def url(self) -> str: ...

    @property
    def kubeconfig(self) -> Path: ...

    def define(self, group: str, version: str, plural: str, **options: Unpack[Options]) -> None: ...

    def forget_history(self) -> None: ...


def client_of(server: Server) -> Api:
    """A client of either server: only the real one asks who it is."""
    return Api(server.url, getattr(server, "token", None))


class KubeApiServer:
    """A kube-apiserver and its etcd, from the folder that ``KUBEBUILDER_ASSETS`` names.

    ``stop()`` and ``start()`` take the API server away and bring it back at the same address with
    all that is stored, as in an outage.
    """

    def __init__(self, assets: Path) -> None:
        self.assets = assets
        self.token = secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix="kube-apiserver-")
        self._etcd: subprocess.Popen[bytes] | None = None
        self._apiserver: subprocess.Popen[bytes] | None = None
        self._etcd_port = self._port = 0
        self._authority: Path | None = None
        self.client_certificate: tuple[Path, Path] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def __enter__(self) -> Self:
        try:
            self._authority = client_authority(self.folder)
            if self._authority:
                self.client_certificate = self.folder / "client.crt", self.folder / "client.key"
            self._start_etcd()
            self.start()
            self.kubeconfig.write_text(kubeconfig_of(self.url, self.token))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.stop()
        _end(self._etcd)
        self._folder.cleanup()

    def stop(self) -> None:
        """End the API server; what it stored stays."""
        _end(self._apiserver)
        self._apiserver = None

    def start(self) -> None:
        """Start the API server and wait until it is ready: at the same address as before."""
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,1,"system:masters"\n')
        first, attempts = not self._port, 5
        for left in reversed(range(attempts)):
            if first:
                self._port = free_port()
            self._apiserver = self._run_apiserver()
            with Api(self.url, self.token).client as client:
                if _ready(client, "/readyz", self._apiserver):
                    for name in ("default", "kube-system"):
                        path = f"/api/v1/namespaces/{name}"
                        wait_until(partial(_is_there, client, path), what=path)
                    return
            self.stop()
            if not left:
                raise RuntimeError(f"kube-apiserver: {self._log('kube-apiserver')}")

    def forget_history(self) -> None:
        """Have etcd forget what objects were like before, as it does by itself after minutes."""
        with contextlib.closing(Api(f"http://127.0.0.1:{self._etcd_port}")) as etcd:
            read = etcd.create("/v3/kv/range", {"key": "AA=="}).raise_for_status().json()
            compaction = {"revision": read["header"]["revision"], "physical": True}
            etcd.create("/v3/kv/compaction", compaction).raise_for_status()

    def _start_etcd(self) -> None:
        for left in reversed(range(5)):
            self._etcd_port = free_port()
            url = f"http://127.0.0.1:{self._etcd_port}"
            self._etcd = self._run(
                "etcd",
                f"--data-dir={self.folder / 'etcd'}",
                "--unsafe-no-fsync",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                "--listen-peer-urls=http://127.0.0.1:0",
                "--initial-advertise-peer-urls=http://127.0.0.1:0",
                "--initial-cluster=default=http://127.0.0.1:0",
            )
            with Api(url).client as client:
                if _ready(client, "/health", self._etcd):
                    return
            _end(self._etcd)
            if not left:
                raise RuntimeError(f"etcd: {self._log('etcd')}")

    def _run_apiserver(self) -> subprocess.Popen[bytes]:
        # The server makes itself a certificate before it reads the key for service accounts: one
        # key serves both, and none has to be made here.
        key = self.folder / "certs" / "apiserver.key"
        return self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder / 'certs'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged",
            *([f"--client-ca-file={self._authority}"] if self._authority else []),
        )

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                ["sh", "-c", _KEEPER, program, self.assets / program, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests: they end the servers themselves, in order.
                start_new_session=True,
            )

    def _log(self, program: str) -> str:
        return (self.folder / f"{program}.log").read_text(errors="replace")[-4000:]

    def define(self, group: str, version: str, plural: str, **options: Unpack[Options]) -> None:
        """Create a custom resource definition, and wait until the resource is served."""
        crd = custom_resource_definition(group, version, plural, **options)
        with contextlib.closing(Api(self.url, self.token)) as api:
            api.create(CRDS, crd).raise_for_status()
            wait_until(lambda: _established(api, f"{CRDS}/{plural}.{group}"), what="Established")
            for name in (version, *options.get("other_versions", ())):
                collection = f"/apis/{group}/{name}/{plural}"
                wait_until(partial(_is_there, api.client, collection), what=collection)


def client_authority(folder: Path) -> Path | None:
    """Write an authority for clients, and an administrator's certificate; None without the tool."""
    if importlib.util.find_spec("cryptography") is None:
        return None
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    admin = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
        x509.NameAttribute(NameOID.COMMON_NAME, "admin"),
    ])  # fmt: skip
    for name, subject, key in zip(("ca", "client"), (authority, admin), keys, strict=True):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
        )
        signed = builder.sign(keys[0], hashes.SHA256())
        pem = serialization.Encoding.PEM
        (folder / f"{name}.crt").write_bytes(signed.public_bytes(pem))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
    return folder / "ca.crt"


def _established(api: Api, path: str) -> bool:
    conditions = api.get(path).json().get("status", {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _ready(client: httpx.Client, path: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers; false if it has ended, as when its port was taken."""
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if client.get(path).is_success:
                return True
        time.sleep(0.05)
    return False


def _is_there(client: httpx.Client, path: str) -> bool:
    return client.get(path).is_success


def _end(process: subprocess.Popen[bytes] | None) -> None:
    """Ask it to end, and make it end, with all that it has started, if it does not."""
    if process is None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kubeconfig_of(url: str, token: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}
        ],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}
        ],
        "users": [{"name": "test", "user": {"token": token}}],
    }
    return json.dumps(config, indent=2)
