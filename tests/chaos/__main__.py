"""Chaos on a real kube-apiserver: `make chaos`, or `python -m tests.chaos --seconds 60 --seed 1`.

Three operators with this library, of which one handles two versions of the kind, one with plain
Kopf and its default name, a controller that changes a finalizer of its own by JSON Patch, and two
that write statuses: one of all objects as fast as it can, one of a single object 40 times a second.
All on the same objects. Operators are killed with SIGKILL at random and started again; the server
is stopped and started once; for some seconds all writes of operators are refused; and objects are
restored from what they were in the middle of their deletion. An independent watcher judges:

* no object went while an effect of it was still there;
* no restored object went without the cleanups of the operators with this library;
* no foreign finalizer was taken off by anybody but its owner;
* no finalizer was twice on an object;
* in the end all objects go, and no operator counts one that it holds.

Prints what happened, and exits with 1 if there was any violation.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from kopf_finalizers import json_patch

from ..support.operators import OperatorProcess
from ..support.proxies import Asked, Fate, Proxy
from ..support.series import Scraped
from ..support.servers import (
    Api,
    Body,
    KubeApiServer,
    Resource,
    client_of,
    free_port,
    wait_until,
)

OWN = ("alpha", "beta", "gamma")
PARTS = ("one", "two")
VERSIONS = ("v1", "v1beta1")
FOREIGN = "third.org/controller"
HERE = Path(__file__).parent


class Chaos:
    """All that goes on, and what the watcher makes of it."""

    def __init__(
        self, server: KubeApiServer, folder: Path, *, seed: int, seconds: float, objects: int
    ) -> None:
        self.server = server
        self.folder = folder
        self.effects = folder / "effects"
        self.effects.mkdir()
        self.cleaned = folder / "cleaned"
        self.cleaned.mkdir()
        self.chance = random.Random(seed)
        self.seconds = seconds
        self.objects = objects
        self.resource = Resource("example.com", "v1", "chaoses", "Chaos")
        self.counts = Counter[str]()
        self.violations = list[str]()
        self.stop = threading.Event()
        self.over = threading.Event()
        self.held = set[str]()
        self.restored = set[str]()
        self.forced = set[str]()
        self.refusal: Fate | None = None
        self.known = dict[str, str]()
        self.gone = set[str]()
        self.ports = dict[str, int]()
        self.failures = list[BaseException]()

    def run(self) -> None:
        self.server.define("example.com", "v1", "chaoses", kind="Chaos", other_versions=["v1beta1"])
        threads = [
            threading.Thread(target=self._guarded, args=(work,), name=work.__name__)
            for work in (
                self._judge,
                self._hold,
                self._write,
                self._hammer,
                self._refuse,
                self._restore,
                self._come_and_go,
            )
        ]
        with contextlib.ExitStack() as stack:
            proxy = stack.enter_context(Proxy(self.server))
            proxy.rules.append(self._fate)
            operators = [self._operator(name, proxy) for name in (*OWN, "plain")]
            for operator in operators:
                stack.enter_context(operator)
            self._until_at_work()
            stack.callback(self._join, threads)
            for thread in threads:
                thread.start()
            self._kill(operators)
            self._wake(operators)
            self._until_all_gone()
            self._until_nothing_is_held()

    def _operator(self, name: str, proxy: Proxy) -> OperatorProcess:
        return OperatorProcess(
            HERE / "operator.py",
            proxy,
            self.folder / f"{name}.log",
            resource=self.resource,
            OPERATOR=name,
            EFFECTS=str(self.effects),
            CLEANED=str(self.cleaned),
            PORT=str(self.ports.setdefault(name, free_port())),
        )

    def _join(self, threads: list[threading.Thread]) -> None:
        self.stop.set()
        self.over.set()
        for thread in threads:
            thread.join(timeout=60)

    def _guarded(self, work: Callable[[Api], None]) -> None:
        """Let a thread go on when the API server is away, and tell of anything else."""
        while not self.over.is_set():
            with contextlib.closing(client_of(self.server)) as api:
                try:
                    work(api)
                except (httpx.TransportError, httpx.HTTPStatusError) as error:
                    if not _is_outage(error):
                        self.failures.append(error)
                        raise
                    self.counts["connections lost"] += 1
                    self.over.wait(0.2)
                except BaseException as failure:
                    self.failures.append(failure)
                    raise
                else:
                    return

    def _kill(self, operators: list[OperatorProcess]) -> None:
        """Kill an operator now and then, and once take the API server away."""
        began = time.monotonic()
        outage = self.seconds * self.chance.uniform(0.4, 0.6)
        while (passed := time.monotonic() - began) < self.seconds and not self.failures:
            self.stop.wait(self.chance.uniform(1, 4))
            if outage and passed > outage:
                outage = 0
                self.server.stop()
                self.stop.wait(1)
                self.server.start()
                self._until_served()
                self.counts["outages"] += 1
            self._wake(operators)
            operator = self.chance.choice(operators)
            operator.kill()
            self.counts["kills"] += 1
            self.stop.wait(self.chance.uniform(0, 1))
            operator.start()

    def _until_at_work(self) -> None:
        """Begin when all operators have handled an object."""
        with contextlib.closing(client_of(self.server)) as api:
            path = self.resource.path_to("first")
            api.create(self.resource.path, self.resource.body("first")).raise_for_status()
            uid = api.get(path).raise_for_status().json()["metadata"]["uid"]
            everybody = (*OWN, "plain")
            ours = [f"{uid}.{operator}.{part}" for operator in everybody for part in PARTS]
            wait_until(lambda: all((self.effects / one).exists() for one in ours), timeout=120)
            self._delete(api, "first")
            wait_until(lambda: api.get(path).status_code == 404, timeout=60)

    def _wake(self, operators: list[OperatorProcess]) -> None:
        """Start an operator again that found nothing to do: Kopf asks once, and nobody answered."""
        for operator in operators:
            if "Unresolved resources" in operator.output().rpartition("Starting Kopf")[2]:
                operator.kill()
                operator.start()
                self.counts["operators that had found no resource"] += 1

    def _until_served(self) -> None:
        """Wait for what an API server tells of its resources, which comes after it is ready.

        Kopf (1.45) asks for it once, when it starts, and would never hear of a resource, or of one
        version alone: objects that live and go meanwhile would have no cleanup of that version.
        """
        group = f"/apis/{self.resource.group}"

        def all_versions(api: Api) -> bool:
            answers = [api.get(path) for path in (group, *(f"{group}/{one}" for one in VERSIONS))]
            if not all(answer.is_success for answer in answers):
                return False
            told = {one["version"] for one in answers.pop(0).json()["versions"]}
            return {*VERSIONS} <= told and all(self.resource.plural in one.text for one in answers)

        with contextlib.closing(client_of(self.server)) as api:
            wait_until(functools.partial(all_versions, api), what=f"all versions of {group}")
            wait_until(lambda: api.get(self.resource.path).is_success, what=self.resource.path)

    def _delete(self, api: Api, name: str) -> None:
        """Delete an object as it is read, and read it again when it has changed meanwhile.

        A server that is told no version (kube-apiserver 1.20) looks for finalizers first, and then
        removes the object also where one was stored in between: no finalizer can hold it then.
        """
        path = self.resource.path_to(name)
        while (found := api.get(path)).is_success:
            version = found.json()["metadata"]["resourceVersion"]
            answer = api.delete(path, {"preconditions": {"resourceVersion": version}})
            if answer.status_code != 409:
                return
            self.counts["deletions tried again"] += 1

    def _until_all_gone(self) -> None:
        """Now everybody is left alone: what is still there has to go."""
        self.stop.set()
        with contextlib.closing(client_of(self.server)) as api:
            # Two cores may take long for what all operators do at once: stuck is where none goes.
            left, changed = self._left(api), time.monotonic()
            while left and time.monotonic() < changed + 90:
                time.sleep(0.2)
                before, left = left, self._left(api)
                if not before <= left:
                    changed = time.monotonic()
            for one in api.list(self.resource.path) if left else []:
                self._violation("stuck", one)
        try:
            wait_until(lambda: set(self.known) <= self.gone or self.failures, timeout=30)
        except TimeoutError as late:
            unheard = sorted(self.known[uid] for uid in set(self.known) - self.gone)
            self.failures.append(
                TimeoutError(f"the watcher has not heard that they went: {unheard}")
            )
            self.failures.append(late)
        self.over.set()

    def _left(self, api: Api) -> set[str]:
        """The uids of those that are there still, of which none is left alive."""
        found = [one["metadata"] for one in api.list(self.resource.path)]
        for metadata in found:
            # A thread may have lost the answer to a creation, and forgotten the object.
            if "deletionTimestamp" not in metadata:
                self._delete(api, metadata["name"])
        return {metadata["uid"] for metadata in found}

    def _until_nothing_is_held(self) -> None:
        """Every gauge is zero, whatever was lost while an operator or the API server was away."""
        for name in OWN:
            series = Scraped(f"http://127.0.0.1:{self.ports[name]}/metrics")
            try:
                wait_until(functools.partial(_holds_nothing, series), timeout=60)
            except TimeoutError:
                self.violations.append(f"{name} counts what is gone: {series.held()}")
            self.counts["releases told of"] += sum(series.released().values())

    def _come_and_go(self, api: Api) -> None:
        """Objects are created and deleted all the time."""
        alive = list[str]()
        number = self.counts["objects"]
        pause = self.seconds / self.objects / 2
        while not self.stop.is_set() or number < self.objects:
            if number < self.objects:
                name = f"object-{number}"
                answer = api.create(self.resource.path, self.resource.body(name))
                if answer.status_code != 409:  # created before the answer was lost
                    answer.raise_for_status()
                number += 1
                self.counts["objects"] = number
                alive.append(name)
            if alive and (len(alive) > 40 or self.chance.random() < 0.45):
                name = alive.pop(self.chance.randrange(len(alive)))
                self._delete(api, name)
            if number >= self.objects and not alive:
                return
            if not self.stop.is_set():
                self.stop.wait(pause)

    def _write(self, api: Api) -> None:
        """A status on one object after the other, without pause."""
        while not self.stop.is_set():
            for one in api.list(self.resource.path):
                if self.stop.is_set():
                    return
                status = {"status": {"written": self.counts["statuses"]}}
                path = self.resource.path_to(one["metadata"]["name"], "status")
                if api.merge_patch(path, status).is_success:
                    self.counts["statuses"] += 1

    def _hammer(self, api: Api) -> None:
        """The status of one object 40 times a second, until it is gone; and then of another one."""
        while not self.stop.is_set():
            found = [one["metadata"]["name"] for one in api.list(self.resource.path)]
            if not found:
                self.stop.wait(0.1)
                continue
            path = self.resource.path_to(found[self.counts["hammered"] % len(found)], "status")
            self.counts["hammered"] += 1
            status = 0
            while not self.stop.wait(1 / 40) and status != 404:
                number = self.counts["statuses of one object"]
                status = api.merge_patch(path, {"status": {"hammered": number}}).status_code
                self.counts["statuses of one object"] += status == 200

    def _refuse(self, _: Api) -> None:
        """For some seconds, now and then, all writes of operators are refused, as by a webhook."""
        while not self.stop.wait(self.seconds / 4):
            self.refusal = Fate(self.chance.choice([400, 403, 422]))
            self.counts["times that everything was refused"] += 1
            self.stop.wait(3)
            self.refusal = None
        self.refusal = None

    def _fate(self, asked: Asked) -> Fate | None:
        return self.refusal if asked.method == "PATCH" else None

    def _restore(self, api: Api) -> None:
        """Objects as they were in the middle of their deletion come back under their names."""
        while not self.stop.wait(self.seconds / 40):
            for one in api.list(self.resource.path):
                if self.stop.is_set():
                    return
                is_begun = '"purpose":"delete"' in json.dumps(one).replace("\\", "")
                if is_begun and one["metadata"]["uid"] not in self.restored:
                    self._restored(api, one)
                    break

    def _restored(self, api: Api, body: Body) -> None:
        name, finalizers = body["metadata"]["name"], body["metadata"].get("finalizers", [])
        path, uid = self.resource.path_to(name), body["metadata"]["uid"]
        # Somebody lets it go by force, with its cleanups undone: what comes back has them to do.
        self.forced.add(uid)
        self.held.discard(uid)
        while api.get(path).status_code != 404:
            api.merge_patch(path, {"metadata": {"finalizers": None}})
        annotations = body["metadata"].get("annotations", {})
        kept = finalizers if self.chance.random() < 0.5 else []
        again = self.resource.body(name, annotations=annotations, finalizers=kept)
        answer = api.create(self.resource.path, again).raise_for_status()
        uid = answer.json()["metadata"]["uid"]
        ours = {f"mycompany.com/{operator}.{part}" for operator in OWN for part in PARTS}
        while not self.over.wait(0.1):
            now = api.get(path).raise_for_status().json()["metadata"]
            if ours <= set(now.get("finalizers", [])):
                self.restored.add(uid)
                self.counts["objects restored"] += 1
                break
            if self.stop.is_set():
                break  # nobody else would delete it any more
        self._delete(api, name)

    def _hold(self, api: Api) -> None:
        """A controller with a finalizer of its own, which it adds, and takes off in the end."""
        while not self.over.is_set():
            for one in api.list(self.resource.path):
                uid = one["metadata"]["uid"]
                path = self.resource.path_to(one["metadata"]["name"])
                deleting = "deletionTimestamp" in one["metadata"]
                if deleting and FOREIGN in one["metadata"].get("finalizers", []):
                    self.held.discard(uid)  # before the request: from here on it may be gone
                    api.json_patch(path, json_patch(one, remove=FOREIGN))
                elif not deleting and uid not in self.held:
                    operations = json_patch(one, add=FOREIGN)
                    if not operations or api.json_patch(path, operations).is_success:
                        self.held.add(uid)
                        self.counts["foreign finalizers"] += 1
            self.over.wait(0.2)

    def _judge(self, api: Api) -> None:
        """Watch everything, from the list on, and again after an outage."""
        listed = api.get(self.resource.path).raise_for_status().json()
        alive = {one["metadata"]["uid"] for one in listed["items"]}
        for uid in set(self.known) - self.gone - alive:
            self._went(uid)
        for one in listed["items"]:
            self._look(one)
        version = listed["metadata"]["resourceVersion"]
        with api.watching(self.resource.path, resourceVersion=version) as seen:
            place = 0
            while not self.over.is_set():
                with seen.changed:
                    if len(seen.events) == place and seen.failure is None:
                        seen.changed.wait(0.5)
                    news, failure = seen.events[place:], seen.failure
                for type_, body in news:
                    if type_ == "ERROR":
                        raise httpx.ReadError("the watch has expired")
                    self._look(body)
                    if type_ == "DELETED":
                        self._went(body["metadata"]["uid"])
                place += len(news)
                if failure is not None:
                    raise httpx.ReadError("the watch has ended") from failure

    def _look(self, body: Body) -> None:
        metadata = body["metadata"]
        uid, finalizers = metadata["uid"], metadata.get("finalizers", [])
        self.known[uid] = metadata["name"]
        if len(finalizers) != len(set(finalizers)):
            self._violation("a finalizer is there twice", body)
        is_held = uid in self.held and uid not in self.forced
        if is_held and FOREIGN not in finalizers and self._still_lacks(body):
            self._violation("the foreign finalizer was taken off", body)

    def _still_lacks(self, body: Body) -> bool:
        """Whether the finalizer is missing in what is stored, not just in an event of before."""
        with contextlib.closing(client_of(self.server)) as api:
            now = api.get(self.resource.path_to(body["metadata"]["name"])).json()
        metadata = now.get("metadata", {})
        return (
            metadata.get("uid") == body["metadata"]["uid"]
            and body["metadata"]["uid"] in self.held
            and FOREIGN not in metadata.get("finalizers", [])
        )

    def _went(self, uid: str) -> None:
        self.gone.add(uid)
        if uid in self.forced:
            return
        left = [path.name for path in self.effects.glob(f"{uid}.*")]
        if left:
            self._violation(f"went with effects left: {left}", {"metadata": {"uid": uid}})
        done = {f"{uid}.{operator}.{part}" for operator in OWN for part in PARTS}
        undone = done - {path.name for path in self.cleaned.glob(f"{uid}.*")}
        if uid in self.restored and undone:
            what = f"restored, it went without cleanups: {sorted(undone)}"
            self._violation(what, {"metadata": {"uid": uid}})
        if uid in self.held:
            self._violation("went with the foreign finalizer on it", {"metadata": {"uid": uid}})

    def _violation(self, what: str, body: Body) -> None:
        known = {
            key: body["metadata"].get(key)
            for key in ("name", "uid", "deletionTimestamp", "finalizers")
        }
        self.violations.append(f"{what}: {json.dumps(known)}")


def _holds_nothing(series: Scraped) -> bool:
    """Whether an operator answers, and counts no object."""
    try:
        return not series.held()
    except httpx.TransportError:
        return False


def _is_outage(error: Exception) -> bool:
    """Whether the API server is away, or back but not yet serving the resource."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (404, 429, 500, 503)
    return True


def conflicts(server: KubeApiServer, resource: Resource) -> dict[str, int]:
    """PATCH requests of the resource by answer, as the API server has counted them."""
    with contextlib.closing(client_of(server)) as api:
        metrics = api.get("/metrics").text
    codes = Counter[str]()
    for line in metrics.splitlines():
        if line.startswith("apiserver_request_total{") and f'resource="{resource.plural}"' in line:
            labels, _, value = line.rpartition(" ")
            if 'verb="PATCH"' in labels:
                codes[labels.split('code="')[1].split('"')[0]] += int(float(value))
    return dict(codes)


@contextlib.contextmanager
def servers() -> Iterator[KubeApiServer]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        sys.exit("Chaos needs a real kube-apiserver: set KUBEBUILDER_ASSETS to its folder.")
    with KubeApiServer(Path(assets)) as server:
        yield server


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(
        f"seed {options.seed}, {options.seconds:g} seconds, {options.objects} objects", flush=True
    )
    with servers() as server, tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        chaos = Chaos(
            server,
            Path(folder),
            seed=options.seed,
            seconds=options.seconds,
            objects=options.objects,
        )
        chaos.run()
        for what, count in sorted(chaos.counts.items()):
            print(f"{what}: {count}")
        print(f"PATCH requests since the outage, by answer: {conflicts(server, chaos.resource)}")
        for name in (*OWN, "plain"):
            log = (Path(folder) / f"{name}.log").read_text(errors="replace")
            print(
                f"{name}: conflicts that Kopf met: {log.count('Could not apply the patch in full')}"
            )
        print(f"gone: {len(chaos.gone)}")
        print(f"violations: {len(chaos.violations)}")
        for violation in chaos.violations[:50]:
            print(f"  {violation}")
        for failure in chaos.failures:
            print(f"failed: {failure!r}")
    return 1 if chaos.violations or chaos.failures else 0


if __name__ == "__main__":
    sys.exit(main())
