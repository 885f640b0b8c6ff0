"""Operators on the API servers, and the API server of `kopf_finalizers.testing` as users see it."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import kopf
import pytest

from kopf_finalizers.testing import ApiError, ApiServer, LoggedRequest

from ..support.servers import (
    APPLY_PATCH,
    CRDS,
    JSON_PATCH,
    MERGE_PATCH,
    Api,
    Resource,
    Server,
    wait_until,
)

THINGS = "/apis/example.com/v1/namespaces/default/things"
THING: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Thing",
    "metadata": {"name": "a"},
}

OPERATOR = """
import kopf

@kopf.on.create("{group}", "v1", "{plural}")
def created(body, patch, **_):
    patch.status["created"] = True
    kopf.info(body, reason="Test", message="told of the creation")

@kopf.on.delete("{group}", "v1", "{plural}")
def deleted(patch, **_):
    patch.status["deleted"] = True
"""


@contextlib.contextmanager
def operator(server: Server, file: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """An operator in a process of its own, as users run it."""
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--verbose", *arguments]
    log = file.with_suffix(".log")
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, str(file)], env=environment, stdout=output, stderr=output, text=True
        ) as process,
    ):
        try:
            yield process
        finally:
            print(log.read_text())  # noqa: T201 - pytest shows it when the test fails
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            finally:
                process.kill()


# Operators


@pytest.mark.parametrize("where", ["--all-namespaces", "--namespace=default"])
def test_an_operator_handles_creation_and_deletion(
    server: Server, api: Api, tmp_path: Path, where: str
) -> None:
    """An unmodified operator handles the creation and the deletion of an object, and tells of it.

    Everything it needs is there: it warns of nothing.
    """
    plural = "everywheres" if where == "--all-namespaces" else "somewheres"
    server.define("operators.example.com", "v1", plural, kind=plural.title())
    resource = Resource("operators.example.com", "v1", plural, plural.title())
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.format(group=resource.group, plural=plural))
    with api.watching(resource.path) as seen, operator(server, file, where) as process:
        created = api.create(resource.path, resource.body("a")).raise_for_status().json()
        uid = created["metadata"]["uid"]
        path = resource.path_to("a")
        wait_until(lambda: api.get(path).json().get("status", {}).get("created"))
        assert api.get(path).json()["metadata"]["finalizers"]
        api.delete(path).raise_for_status()
        last = seen.wait_for("DELETED", "a")
        assert last["status"]["deleted"]
        events = "/api/v1/namespaces/default/events"
        wait_until(
            lambda: any(
                (e["involvedObject"]["uid"], e["message"]) == (uid, "told of the creation")
                for e in api.list(events)
            )
        )
        assert process.poll() is None
    log = file.with_suffix(".log").read_text()
    assert "WARNING" not in log
    assert "ERROR" not in log


def test_an_operator_finds_what_is_defined_later(server: Server, api: Api, tmp_path: Path) -> None:
    """An operator that is up already begins to serve a resource when it is defined later."""
    resource = Resource("operators.example.com", "v1", "laters", "Later")
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.format(group=resource.group, plural=resource.plural))
    log = file.with_suffix(".log")
    with operator(server, file, "--all-namespaces"):
        wait_until(lambda: "Starting the watch-stream for customresourcedef" in log.read_text())
        server.define(resource.group, resource.version, resource.plural, kind=resource.kind)
        api.create(resource.path, resource.body("a")).raise_for_status()

        def is_served() -> bool:
            # Kopf overlooks a definition that it lists but has not scanned: a change it notices.
            patch = {"metadata": {"labels": {"nudge": uuid.uuid4().hex}}}
            api.merge_patch(f"{CRDS}/laters.operators.example.com", patch).raise_for_status()
            return "status" in api.get(resource.path_to("a")).json()

        wait_until(is_served)


def test_an_operator_inside_the_process(api_server: ApiServer) -> None:
    """An embedded operator is given its credentials, and the test needs no client of its own."""
    api_server.define("example.com", "v1", "things")
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return api_server.connection_info()

    @kopf.on.create("example.com", "v1", "things", registry=registry)
    def created(patch: kopf.Patch, **_: Any) -> None:
        patch.status["created"] = True

    path = f"{THINGS}/a"

    async def run() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(
            kopf.operator(registry=registry, clusterwide=True, standalone=True, stop_flag=stop)
        )
        api_server.call("POST", THINGS, THING)
        await asyncio.to_thread(wait_until, lambda: "status" in api_server.call("GET", path))
        stop.set()
        await running

    asyncio.run(run())
    assert api_server.call("GET", path)["status"] == {"created": True}


# The server as users see it


def test_a_server_for_one_test(pytester: pytest.Pytester) -> None:
    """The fixture is there where the plugin is, and each test gets a server of its own."""
    pytester.makeconftest('pytest_plugins = ["kopf_finalizers.testing"]')
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_define(api_server, number):
            api_server.define("example.com", "v1", "things")
            assert api_server.call("GET", "/apis/example.com/v1/things")["items"] == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_a_call_needs_no_client(api_server: ApiServer) -> None:
    """Calls answer with plain data, raise what is refused, and take queries and content types."""
    api_server.define("example.com", "v1", "things")
    created = api_server.call("post", THINGS, THING)
    assert created["metadata"]["uid"]
    patch = {"metadata": {"finalizers": ["a.example.com/f"]}}
    changed = api_server.call("PATCH", f"{THINGS}/a", patch, content_type=MERGE_PATCH)
    assert api_server.call("GET", f"{THINGS}/a") == changed
    operations = [{"op": "remove", "path": "/metadata/finalizers"}]
    api_server.call("PATCH", f"{THINGS}/a", operations, content_type=JSON_PATCH)
    path = f"{THINGS}/a?fieldManager=somebody%20else"
    applied = api_server.call("PATCH", path, {**THING, **patch}, content_type=APPLY_PATCH)
    assert applied["metadata"]["managedFields"][0]["manager"] == "somebody else"
    assert api_server.call("GET", THINGS.replace("things", "th%69ngs"))["items"] == [applied]
    with pytest.raises(ApiError) as refused:
        api_server.call("PUT", f"{THINGS}/a", {**THING, "metadata": {"name": "b"}})
    assert refused.value.status == 400
    assert refused.value.message.startswith("the name of the object (b) does not match")
    assert refused.value.body["reason"] == "BadRequest"
    assert str(refused.value) == f"400: {refused.value.message}"


def test_an_answer_is_the_caller_s_own(api_server: ApiServer) -> None:
    """Changing what a call has returned, or been given, changes nothing on the server."""
    api_server.define("example.com", "v1", "things")
    body: dict[str, Any] = {**THING, "spec": {"list": [1]}}
    created = api_server.call("POST", THINGS, body)
    body["spec"]["list"].append(2)
    created["spec"]["list"].append(3)
    assert api_server.call("GET", f"{THINGS}/a")["spec"] == {"list": [1]}


def test_requests_over_http_are_logged(api_server: ApiServer) -> None:
    """The log has what clients sent, refusals and watches too, and none of the test's own calls."""
    api_server.define("example.com", "v1", "things")
    api_server.call("POST", THINGS, THING)
    assert api_server.requests == []
    with httpx.Client(base_url=api_server.url, trust_env=False) as client:
        client.get(f"{THINGS}/a?pretty=true")
        client.patch(f"{THINGS}/b", json={}, headers={"Content-Type": MERGE_PATCH})
        client.get(THINGS, params={"watch": "1", "timeoutSeconds": "-1"})
    assert api_server.requests == [
        LoggedRequest("GET", f"{THINGS}/a", "", 200),
        LoggedRequest("PATCH", f"{THINGS}/b", MERGE_PATCH, 404),
        LoggedRequest("GET", THINGS, "", 200),
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "plural", "namespaced"),
    [
        ({}, True, "things", True),
        ({"namespaced": False, "status": False, "kind": "Other"}, False, "others", False),
    ],
)
def test_definitions(
    api_server: ApiServer, arguments: Any, status: bool, plural: str, namespaced: bool
) -> None:
    """A resource is served as soon as it is defined, and it can be defined once."""
    api_server.define("example.com", "v1", plural, **arguments)
    found = {r["name"]: r for r in api_server.call("GET", "/apis/example.com/v1")["resources"]}
    assert found[plural]["kind"] == plural.removesuffix("s").title()
    assert found[plural]["namespaced"] is namespaced
    assert (f"{plural}/status" in found) is status
    with pytest.raises(ApiError, match=r"409: .* already exists"):
        api_server.define("example.com", "v1", plural)


@pytest.mark.parametrize(
    "query",
    [
        "shardSelector=a",
        "dryRun=All",
        "sendInitialEvents=true",
        "resourceVersionMatch=Exact",
    ],
)
def test_what_is_not_supported_is_refused(api_server: ApiServer, query: str) -> None:
    """A query that this server would have to ignore is refused, with its name."""
    with pytest.raises(ApiError, match=f"400: not supported .* {query.partition('=')[0]}"):
        api_server.call("GET", f"/api/v1/namespaces?{query}")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.call("GET", f"{THINGS}?watch=true"), "400: a watch is for clients"),
        (
            lambda s: s.call("POST", "/api/v1/namespaces/default/bindings", {}),
            "400: .* makes no Binding",
        ),
        (lambda s: s.call("POST", "/apis"), "405: POST is not supported"),
        (lambda s: s.call("PUT", "/api/v1"), "405: PUT is not supported"),
        (lambda s: s.call("DELETE", f"{THINGS}/a", {"kind": "Other"}), "400: .* DeleteOptions"),
        (
            lambda s: s.call(
                "PATCH",
                f"{THINGS}/a?fieldManager=m",
                {**THING, "spec": {}},
                content_type=APPLY_PATCH,
            ),
            "400: .* applies nothing but metadata.finalizers",
        ),
        (
            lambda s: s.call(
                "PATCH",
                f"{THINGS}/a/status?fieldManager=m",
                THING,
                content_type=APPLY_PATCH,
            ),
            "400: .* applies nothing but metadata.finalizers",
        ),
        (
            lambda s: s.call(
                "PATCH",
                f"{CRDS}/things.example.com",
                {"spec": {"conversion": {"strategy": "Webhook"}}},
                content_type=MERGE_PATCH,
            ),
            "422: .* spec.conversion.strategy: Forbidden: this API server for tests",
        ),
    ],
)
def test_what_a_real_server_would_do(
    api_server: ApiServer, call: Callable[[ApiServer], Any], words: str
) -> None:
    """What a real server does and this one does not is refused: never taken and ignored."""
    api_server.define("example.com", "v1", "things")
    created = api_server.call("POST", THINGS, THING)
    with pytest.raises(ApiError, match=words):
        call(api_server)
    assert api_server.call("GET", f"{THINGS}/a") == created


OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    ("version", "field"),
    [
        ({"subresources": {"scale": {}}}, "subresources"),
        *(
            ({"schema": {"openAPIV3Schema": {**OBJECT, "properties": {name: schema}}}}, name)
            for name, schema in (
                ("metadata", {**OBJECT, "properties": {"name": {"type": "string"}}}),
                ("a", {**OBJECT, "anyOf": [{"required": ["b"]}]}),
                ("a", {**OBJECT, "additionalProperties": False}),
                ("a", {"type": "string", "format": "ipv4"}),
            )
        ),
    ],
)
def test_definitions_that_a_real_server_would_take(
    api_server: ApiServer, version: dict[str, Any], field: str
) -> None:
    """What a definition asks for and this server would not do is refused, with the path to it."""
    api_server.define("example.com", "v1", "things")
    path = f"{CRDS}/things.example.com"
    versions = api_server.call("GET", path)["spec"]["versions"]
    patch = {"spec": {"versions": [{**versions[0], **version}]}}
    with pytest.raises(ApiError, match=rf"422: .*{field}.*: Forbidden: this API server for tests"):
        api_server.call("PATCH", path, patch, content_type=MERGE_PATCH)


@pytest.mark.parametrize("schema", [[], {**OBJECT, "properties": {"a": []}}])
def test_definitions_that_cannot_be_read(api_server: ApiServer, schema: Any) -> None:
    """A definition that makes no sense is refused, and the server goes on."""
    api_server.define("example.com", "v1", "things")
    definition = api_server.call("GET", f"{CRDS}/things.example.com")
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    with pytest.raises(ApiError, match=r"422: .* a schema is an object"):
        api_server.call("PUT", f"{CRDS}/things.example.com", definition)


def test_all_names_of_a_definition(api_server: ApiServer) -> None:
    """A handler may name a resource by its singular, a short name or a category."""
    api_server.define(
        "mycompany.com",
        "v1",
        "databases",
        singular="dat",
        short_names=["db"],
        categories=["stores"],
        other_versions=["v1beta1"],
    )
    for version in ("v1", "v1beta1"):
        found = api_server.call("GET", f"/apis/mycompany.com/{version}")["resources"][0]
        assert found["singularName"] == "dat"
        assert (found["shortNames"], found["categories"]) == (["db"], ["stores"])


# Its life


def test_a_server_stops_whatever_is_open() -> None:
    """When the server stops, open watches end in good order, and nothing is left behind."""
    threads = set(threading.enumerate())
    with ApiServer() as server:
        kubeconfig, url = server.kubeconfig, server.url
        assert kubeconfig.exists()
        client = httpx.Client(base_url=url, trust_env=False, timeout=30)
        request = client.build_request("GET", "/api/v1/namespaces", params={"watch": "true"})
        response = client.send(request, stream=True)
        lines = response.iter_lines()
        assert '"default"' in next(lines)
        assert '"kube-system"' in next(lines)
    with contextlib.closing(client), contextlib.closing(response):
        assert list(lines) == []
    assert not kubeconfig.exists()
    assert set(threading.enumerate()) <= threads
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_server_stops_after_a_failure() -> None:
    """A failure of the test is what is raised, and the server is gone."""
    threads = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), ApiServer():
        _ = 1 / 0
    assert set(threading.enumerate()) <= threads


def test_a_server_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot start says why, and leaves nothing behind."""
    threads = set(threading.enumerate())

    def refuse(*_: Any) -> None:
        raise OSError(errno.EADDRINUSE, "no more ports")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(OSError, match="no more ports"), ApiServer():
        pytest.fail("it has started")
    assert set(threading.enumerate()) <= threads


def test_a_server_is_used_in_a_with_statement() -> None:
    """A server that is not up says so; and it starts only once."""
    server = ApiServer()
    for use in (
        lambda: server.url,
        lambda: server.kubeconfig,
        lambda: server.connection_info(),
        lambda: server.call("GET", "/api"),
        lambda: server.define("example.com", "v1", "things"),
    ):
        with pytest.raises(RuntimeError, match="not up: use it in a with statement"):
            use()
    with server:
        server.call("GET", "/api")
        with pytest.raises(RuntimeError, match="cannot be started again"):
            server.__enter__()
    with pytest.raises(RuntimeError, match="not up"):
        server.call("GET", "/api")


def test_calls_come_from_many_threads(api_server: ApiServer) -> None:
    """Calls from many threads at once all count, and watchers see all of them."""
    api_server.define("example.com", "v1", "things")
    names = [f"thing-{number}" for number in range(40)]

    def create(name: str) -> None:
        api_server.call("POST", THINGS, {**THING, "metadata": {"name": name}})

    with contextlib.closing(Api(api_server.url)) as api, api.watching(THINGS) as seen:
        threads = [threading.Thread(target=create, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.wait_until(lambda seen: len(seen.events) == len(names))
    listed = api_server.call("GET", THINGS)["items"]
    assert [o["metadata"]["name"] for o in listed] == sorted(names)
    versions = [int(o["metadata"]["resourceVersion"]) for _, o in seen.events]
    assert versions == sorted(set(versions))


def test_a_watcher_that_hangs_up_is_forgotten(api_server: ApiServer) -> None:
    """The server goes on when a watcher hangs up, and the next change is for the others."""
    api_server.define("example.com", "v1", "things")
    with contextlib.closing(Api(api_server.url)) as api, api.watching(THINGS) as staying:
        for number in range(3):
            with api.watching(THINGS):
                pass
            body = {**THING, "metadata": {"name": f"thing-{number}"}}
            api_server.call("POST", THINGS, body)
            staying.wait_for("ADDED", f"thing-{number}")
        with api.watching(THINGS):
            pass
        wait_until(lambda: len(api_server._http.watchers) == 1)
    wait_until(lambda: not api_server._http.watchers)


def test_a_watcher_that_hangs_up_at_once_is_no_error(
    api_server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that is killed when it has just asked leaves no traceback in the log of a test."""
    api_server.define("example.com", "v1", "things")
    address = urllib.parse.urlsplit(api_server.url)
    for _ in range(20):
        with socket.create_connection((address.hostname, address.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(f"GET {THINGS}?watch=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_until(lambda: any(one.method == "GET" for one in api_server.requests))
    wait_until(lambda: not api_server._http.watchers)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


# Waiting


def test_waiting_for_a_state_of_an_object(api_server: ApiServer) -> None:
    """A test waits until an object is there and as it should be, and until it is gone."""
    api_server.define("example.com", "v1", "things")
    path = f"{THINGS}/a"

    def others() -> None:
        api_server.call("POST", THINGS, THING)
        patch = {"spec": {"ready": True}}
        api_server.call("PATCH", path, patch, content_type=MERGE_PATCH)

    thread = threading.Thread(target=others)
    thread.start()
    found = api_server.wait_for(path, lambda body: body.get("spec", {}).get("ready"))
    thread.join()
    assert found["spec"] == {"ready": True}
    thread = threading.Thread(target=api_server.call, args=("DELETE", path))
    thread.start()
    api_server.wait_until_gone(path)
    thread.join()


def test_waiting_has_an_end(api_server: ApiServer) -> None:
    """What does not come in time is a failure that shows the object as it was last."""
    api_server.define("example.com", "v1", "things")
    path = f"{THINGS}/a"
    with pytest.raises(TimeoutError, match=rf"Not within 0.05 s: {path} is not there"):
        api_server.wait_for(path, lambda _: True, timeout=0.05)
    api_server.call("POST", THINGS, THING)
    for wait in (
        lambda: api_server.wait_for(path, lambda body: "spec" in body, timeout=0.05),
        lambda: api_server.wait_until_gone(path, timeout=0.05),
    ):
        with pytest.raises(TimeoutError, match=r'"name": "a"'):
            wait()
    with pytest.raises(ApiError, match="405"):
        api_server.wait_until_gone("/api/v1/namespaces/default/bindings")


@pytest.mark.parametrize(
    ("accept", "media_type", "begin"),
    [
        (
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
            "application/octet-stream",
            b"\n\x032.0\x12\x15\n\nKubernetes\x12\x07v1.20.2B",
        ),
        ("application/json", "text/plain", b'{"swagger": "2.0"'),
    ],
)
def test_openapi(api_server: ApiServer, accept: str, media_type: str, begin: bytes) -> None:
    """OpenAPI is described as a real server of 1.20 begins to, and nothing follows."""
    url = f"{api_server.url}/openapi/v2"
    answer = httpx.get(url, headers={"Accept": accept}, trust_env=False)
    assert answer.headers["Content-Type"].startswith(media_type)
    assert answer.content.startswith(begin)
    assert api_server.requests == [LoggedRequest("GET", "/openapi/v2", "", 200)]
