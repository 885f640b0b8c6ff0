"""The commands for a cluster, beside the least that could do the same.

Each command runs in a process of its own, as users call it, with the start of Python in its time.
What it is compared with are the same requests without anything else: a bare HTTP client of the
standard library, one connection for a listing, and as many as the command has for changes.
"""

import contextlib
import http.client
import json
import os
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from kopf_finalizers._cluster.changing import AT_ONCE
from tests.support.servers import KubeApiServer, Resource, client_of

METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
OURS = "mycompany.com/db-operator"
BACKUPS = f"{OURS}.backups"
STUCK_OF = 100
"""One object of so many is being deleted, and held."""

COMMAND = [sys.executable, "-m", "kopf_finalizers"]


def measure(
    server: KubeApiServer, *, sizes: Sequence[int], stuck: int, repeat: int
) -> dict[str, list[dict[str, Any]]]:
    """Listings of so many objects, and the release of so many that are stuck."""
    looking, made = list[dict[str, Any]](), 0
    server.define("ops.example.com", "v1", "databases", kind="Database")
    objects = Resource("ops.example.com", "v1", "databases", "Database")
    for size in sorted(sizes):
        _make(server, objects, range(made, size), lambda number: number % STUCK_OF == 0)
        made = size
        looking.append({"objects": f"{size:,}", **_looked(server, objects, repeat)})
    return {"looking": looking, "releasing": [_released(server, stuck)]}


def _looked(server: KubeApiServer, objects: Resource, repeat: int) -> dict[str, Any]:
    """`holders` over all kinds, beside a listing and beside kubectl with jq."""
    # Of the many ways to count stuck objects by finalizer, the one that is found most often.
    query = ".items[].metadata | select(.deletionTimestamp and .finalizers) | .finalizers[]"
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "listing": lambda: _bare_listing(server, objects),
        "holders": lambda: _run(server, [*COMMAND, "holders", "-o", "json"]),
    }
    if shutil.which("kubectl") and shutil.which("jq"):
        piped = f"kubectl get {objects.plural}.{objects.group} -A -o json | jq -r '{query}' | sort"
        ways["kubectl | jq"] = lambda: _run(server, ["/bin/sh", "-c", f"{piped} | uniq -c"])
    turns: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for turn in range(repeat):
        names = list(ways)
        for way in names[turn % len(names) :] + names[: turn % len(names)]:
            turns[way].append(ways[way]())
    seconds = {way: statistics.median(time for time, _ in turns[way]) for way in ways}
    row: dict[str, Any] = {
        "a bare listing, s": seconds["listing"],
        "holders, all kinds, s": seconds["holders"],
        "of the listing": statistics.median(
            ours / bare
            for (ours, _), (bare, _) in zip(turns["holders"], turns["listing"], strict=True)
        ),
        "peak, MiB": statistics.median(peak for _, peak in turns["holders"]),
    }
    if "kubectl | jq" in seconds:
        row["kubectl get -o json with jq, s"] = seconds["kubectl | jq"]
        row["times as fast"] = seconds["kubectl | jq"] / seconds["holders"]
    return row


def _run(server: KubeApiServer, command: list[str]) -> tuple[float, float]:
    """The time of a command, and the most memory of any of its processes in MiB."""
    environment = os.environ | {"KUBECONFIG": str(server.kubeconfig)}
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode > 1)"
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *command],
        env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=1800,
    )  # fmt: skip
    return time.perf_counter() - begin, int(done.stdout) / 1024


def _bare_listing(server: KubeApiServer, objects: Resource) -> tuple[float, float]:
    """The pages of the one large kind, read as JSON and thrown away."""
    begin = time.perf_counter()
    token: str | None = ""
    with _connected(server) as connection:
        while token is not None:
            page = f"{objects.everywhere}?limit=500" + (
                f"&continue={quote(token)}" if token else ""
            )
            _, answer = _asked(connection, server, "GET", page, accept=METADATA)
            token = answer["metadata"].get("continue") or None
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _released(server: KubeApiServer, stuck: int) -> dict[str, Any]:
    """`release --all-stuck`, beside the same requests of as many bare connections."""
    times = dict[str, float]()
    sent = dict[str, float]()
    for way in ("bare", "release"):
        plural = f"{way}s"
        server.define("ops.example.com", "v1", plural, kind=plural.title())
        objects = Resource("ops.example.com", "v1", plural, plural.title())
        _make(server, objects, range(stuck), lambda _: True)
        before = _requests(server, plural)
        if way == "bare":
            times[way] = _bare_release(server, objects)
        else:
            command = [*COMMAND, "release", OURS, "--all-stuck", plural, "-A", "--yes"]
            times[way], _ = _run(server, command)
        sent[way] = (_requests(server, plural) - before) / stuck
    return {
        "objects": f"{stuck:,}",
        "the same requests sent bare, s": times["bare"],
        "release --all-stuck, s": times["release"],
        "of the bare requests": times["release"] / times["bare"],
        "requests per object": sent["release"],
    }


def _bare_release(server: KubeApiServer, objects: Resource) -> float:
    """A listing, and a JSON Patch for each object."""
    begin = time.perf_counter()
    found = list[dict[str, Any]]()
    token: str | None = ""
    with _connected(server) as connection:
        while token is not None:
            page = f"{objects.everywhere}?limit=500" + (
                f"&continue={quote(token)}" if token else ""
            )
            _, answer = _asked(connection, server, "GET", page, accept=METADATA)
            found += [one["metadata"] for one in answer["items"]]
            token = answer["metadata"].get("continue") or None

    def release(share: list[dict[str, Any]]) -> None:
        with _connected(server) as connection:
            for one in share:
                place = one["finalizers"].index(OURS)
                patch = [
                    {"op": "test", "path": "/metadata/uid", "value": one["uid"]},
                    {"op": "test", "path": f"/metadata/finalizers/{place}", "value": OURS},
                    {"op": "remove", "path": f"/metadata/finalizers/{place}"},
                ]
                path = objects.within(one["namespace"]).path_to(one["name"])
                status, answer = _asked(connection, server, "PATCH", path, patch)
                assert status == 200, answer

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(release, [found[start::AT_ONCE] for start in range(AT_ONCE)]))
    return time.perf_counter() - begin


@contextlib.contextmanager
def _connected(server: KubeApiServer) -> Iterator[http.client.HTTPSConnection]:
    # As kubeconfig files for tests: the server has signed its certificate itself.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.closing(
        http.client.HTTPSConnection(server.url.removeprefix("https://"), context=context)
    ) as connection:
        yield connection


def _asked(
    connection: http.client.HTTPSConnection,
    server: KubeApiServer,
    method: str,
    path: str,
    body: Any = None,
    *,
    accept: str = "application/json",
) -> tuple[int, Any]:
    headers = {"Accept": accept, "Authorization": f"Bearer {server.token}"}
    content = None
    if body is not None:
        content, headers["Content-Type"] = json.dumps(body), "application/json-patch+json"
    connection.request(method, path, content, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def _make(
    server: KubeApiServer, objects: Resource, numbers: range, is_stuck: Callable[[int], bool]
) -> None:
    """Objects of about 4 KB, of which some are being deleted and held."""

    def make(share: range) -> None:
        with contextlib.closing(client_of(server)) as api:
            for number in share:
                name = f"object-{number:06}"
                body = objects.body(name, spec={"x": "y" * 3500}, finalizers=[OURS, BACKUPS])
                api.create(objects.path, body).raise_for_status()
                if is_stuck(number):
                    api.delete(objects.path_to(name)).raise_for_status()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, [numbers[start::4] for start in range(4)]))


def _requests(server: KubeApiServer, plural: str) -> float:
    """How often the API server was asked for objects of this kind, by its own count."""
    with contextlib.closing(client_of(server)) as api:
        text = api.get("/metrics").raise_for_status().text
    lines = (line for line in text.splitlines() if line.startswith("apiserver_request_total{"))
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'resource="{plural}"' in line)


def problems(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Where a figure is beyond what is promised, on a machine that does nothing else."""
    looking, found = results["looking"], list[str]()

    def hold(what: str, figure: float, most: float) -> None:
        if figure > most:
            found.append(f"{what} {figure:.2f}, at most {most:.2f}")

    for row in looking:
        at = f"at {row['objects']} objects holders"
        hold(f"{at} / a bare listing", row["of the listing"], 1.2)
        hold(f"{at} / kubectl with jq", 1 / row.get("times as fast", 3), 1 / 3)
    first, last = looking[0]["peak, MiB"], looking[-1]["peak, MiB"]
    hold(f"MiB of holders at {looking[0]['objects']} objects", first, 100)
    hold(f"MiB of holders at {looking[-1]['objects']} objects", last, 1.1 * first)
    for row in results["releasing"]:
        hold("release / the same requests sent bare", row["of the bare requests"], 1.2)
        hold("requests of release per object", row["requests per object"], 2)
    return found
