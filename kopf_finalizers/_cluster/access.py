"""The way to a cluster: all that kubectl logs in with, and requests that say what went wrong.

Logging in is the official client's (`kubernetes`): of the clients that were compared it alone takes
every kind of login that kubectl takes. Two things are done here: impersonation, which it does not
know, and which of several files says what the current context is, which it takes from the last one,
and kubectl from the first. What it would make of objects is left out: requests go through its
connection pool as they are.
"""

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
# An API server that does not know metadata alone (an aggregated one, say) sends whole objects.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# What kubeconfig files call it, and the API server (Kubernetes 1.20 to 1.36).
_IMPERSONATION = {
    "as": "Impersonate-User",
    "as-uid": "Impersonate-Uid",
    "as-groups": "Impersonate-Group",
}

_FRESH = 5
CONNECTIONS = 16
"""How many requests may be under way at once."""


class ClusterError(Exception):
    """What stands between the caller and the cluster, in words for a person."""


class RefusedError(ClusterError):
    """The API server's own refusal.

    Attributes:
        status: The HTTP status.
        reason: Kubernetes' word for it, as `Forbidden`; empty where it was no API server's answer.
        body: The answer, a `Status` in most cases.
    """

    def __init__(self, status: int, body: Any, *, doing: str) -> None:
        told = body if isinstance(body, Mapping) else {}
        self.status = status
        self.reason = str(told.get("reason") or "")
        self.body = body
        words = " ".join(str(told.get("message") or body or "no reason is given").split())
        self.words = words if len(words) < 400 else f"{words[:400]}…"
        super().__init__(f"{doing}: {status} {self.reason}: {self.words}")


@dataclass
class _Session:
    """What one login has brought."""

    configuration: Any
    pool: Any
    patience: Mapping[str, Any]
    headers: Sequence[tuple[str, str]]
    namespace: str
    context: str

    _authorization: tuple[float, dict[str, str]] = (-math.inf, {})

    def authorization(self) -> dict[str, str]:
        """What says who asks: the client renews a token whose time is up when it is asked for it.

        That looks at all of the environment, so it is asked every few seconds, not each time.
        """
        since, known = self._authorization
        if time.monotonic() - since > _FRESH:
            found = self.configuration.auth_settings().values()
            known = {one["key"]: one["value"] for one in found if one.get("value")}
            self._authorization = time.monotonic(), known
        return known


class Cluster:
    """One cluster, logged in to as kubectl would.

    Args:
        kubeconfig: The file; else `KUBECONFIG`, with as many files as it names, else
            `~/.kube/config`, else the service account of the pod.
        context: The context in it; else the current one.

    A context manager: its connections are closed at the end.

    Raises:
        ClusterError: The client library is not there, or there is no way to log in.
    """

    def __init__(self, *, kubeconfig: str | None = None, context: str | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._lock = threading.Lock()
        self._session = _logged_in(kubeconfig, context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.pool.clear()

    @property
    def namespace(self) -> str:
        """The namespace of the context, or of the pod."""
        return self._session.namespace

    @property
    def context(self) -> str:
        """What the cluster is called: for whoever is asked before something is changed."""
        return self._session.context

    def get(self, path: str, *, accept: str = JSON, **query: str | int | None) -> Any:
        """Read something."""
        return self.request("GET", path, accept=accept, query=query)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        accept: str = JSON,
        content_type: str = JSON,
        query: Mapping[str, str | int | None] | None = None,
    ) -> Any:
        """Ask the API server, and return its answer as plain data.

        Where it is too busy (429) it is asked again when it says, and once more with a fresh login
        when it says 401.

        Raises:
            RefusedError: It refuses.
            ClusterError: It cannot be reached, or it was no API server that answered.
        """
        session = self._session
        status, answer = self._sent(session, method, path, body, accept, content_type, query)
        if status == 401:
            session = self._again(session)
            status, answer = self._sent(session, method, path, body, accept, content_type, query)
        if status >= 400:
            raise RefusedError(status, answer, doing=f"{method} {path}")
        if not isinstance(answer, Mapping):
            raise ClusterError(f"{method} {path}: what answered is no API server: {answer!r:.80}")
        return answer

    def _again(self, refused: _Session) -> _Session:
        with self._lock:
            if self._session is refused:
                refused.pool.clear()
                self._session = _logged_in(self._kubeconfig, self._context)
            return self._session

    def _sent(
        self,
        session: _Session,
        method: str,
        path: str,
        body: Any,
        accept: str,
        content_type: str,
        query: Mapping[str, str | int | None] | None,
    ) -> tuple[int, Any]:
        import urllib3

        given = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        url = session.configuration.host + path + (f"?{urlencode(given)}" if given else "")
        headers: Any = {"Accept": accept, **session.authorization()}
        if session.headers:
            headers = urllib3.HTTPHeaderDict(headers)
            for header, value in session.headers:
                headers.add(header, value)
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), content_type
        try:
            response = session.pool.urlopen(
                method, url, headers=headers, body=content, **session.patience
            )
        except urllib3.exceptions.MaxRetryError as error:
            where = session.configuration.host
            raise ClusterError(f"{where} cannot be reached: {error.reason or error}") from error
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"{method} {path}: {error}") from error
        try:
            return response.status, json.loads(response.data)
        except ValueError:
            return response.status, response.data.decode(errors="replace").strip()


def _logged_in(kubeconfig: str | None, context: str | None) -> _Session:
    try:
        import urllib3
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject
        from kubernetes.config import ConfigException
    except ImportError as error:
        raise ClusterError(
            "This command needs a client of Kubernetes. Install it with the extra of that name:"
            f" pip install 'kopf-finalizers[cluster]' ({error})"
        ) from None
    configuration = Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    try:
        namespace, name, headers = _identified(configuration, kubeconfig, context)
    except ConfigException as error:
        raise ClusterError(f"There is no way into a cluster: {error}") from None
    if not configuration.verify_ssl:
        # As kubectl: whoever has written insecure-skip-tls-verify knows it.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    # What it would say of each attempt is said once, when there is none left.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    pool = RESTClientObject(configuration).pool_manager
    # Safe for each method: what is repeated is a read, a deletion of one uid, or a JSON Patch whose
    # tests fail where it was done before.
    retries = urllib3.Retry(
        total=5, redirect=0, allowed_methods=None, backoff_factor=0.2, raise_on_status=False
    )
    timeout = urllib3.Timeout(connect=10, read=120)
    patience = {"retries": retries, "timeout": timeout}
    return _Session(configuration, pool, patience, headers, namespace, name)


def _identified(
    configuration: Any, kubeconfig: str | None, context: str | None
) -> tuple[str, str, list[tuple[str, str]]]:
    """Fill in the configuration; the namespace, the context's name, and further headers."""
    from kubernetes.config import ConfigException, load_incluster_config
    from kubernetes.config.kube_config import KubeConfigLoader

    paths = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    merger = _read(paths)
    if merger.config is None:
        if kubeconfig or context:
            raise ConfigException(f"{paths} is not there.")
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException as error:
            raise ConfigException(
                f"{paths} is not there, and this is no pod with a service account ({error})"
            ) from None
        return (_SERVICE_ACCOUNT / "namespace").read_text().strip(), "the cluster of this pod", []
    files = [merger.config_files[path] for path in merger.paths]
    # The first file that says it counts, as for kubectl.
    current = next(filter(None, (file.get("current-context") for file in files)), None)
    loader = KubeConfigLoader(
        config_dict=merger.config, active_context=context or current, config_base_path=None
    )
    with _errors_of_plugins() as errors:
        loader.load_and_set(configuration)
    chosen = loader.current_context
    about, name = chosen["context"], str(chosen["name"])
    user = _user(files, about.get("user"))
    if "exec" in user and not (configuration.auth_settings() or configuration.cert_file):
        command = user["exec"].get("command")
        told = " ".join(errors) or "it has returned no credentials"
        raise ConfigException(
            f"the plugin {command}, which context {name} logs in with, has failed: {told}"
        )
    return str(about.get("namespace") or "default"), name, _impersonation(user)


def _read(paths: str) -> Any:
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger
    from yaml import YAMLError

    try:
        return KubeConfigMerger(paths)
    except (OSError, UnicodeDecodeError, YAMLError, AttributeError, TypeError) as error:
        words = " ".join(str(error).split())
        raise ConfigException(f"{paths} cannot be read as a kubeconfig: {words}") from None


def _user(files: Iterable[Mapping[str, Any]], name: str | None) -> Mapping[str, Any]:
    users = (one for file in files for one in file.get("users") or [])
    return next((one.get("user") or {} for one in users if one.get("name") == name), {})


def _impersonation(user: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whom a kubeconfig says to act as: the client would act as the user, who may do more."""
    found = list[tuple[str, str]]()
    for key, header in _IMPERSONATION.items():
        values = user.get(key) or []
        found += [(header, str(one)) for one in ([values] if isinstance(values, str) else values)]
    for key, values in (user.get("as-user-extra") or {}).items():
        found += [(f"Impersonate-Extra-{quote(key, safe='')}", str(one)) for one in values]
    return found


@contextlib.contextmanager
def _errors_of_plugins() -> Iterator[list[str]]:
    """What the client logs of a plugin that fails, since it goes on without credentials."""
    told = list[str]()

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    handler = Collecting(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield told
    finally:
        logging.getLogger().removeHandler(handler)
