"""A few objects, one operator, and all that may happen to them at once.

Each object has a script of its own: it is changed, others write its finalizers, requests of the
operator are refused or lost, and it is deleted. Meanwhile the operator is killed and started again.
Then everybody is left alone, and what is there has to go.
"""

import contextlib
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from ...support.operators import OperatorProcess
from ...support.proxies import Asked, Fate, Proxy
from ...support.servers import Api, Resource, Server, Watched, client_of, wait_until
from .described import MAIN, OTHER_VERSION, STORED, Described
from .oracle import Life, finalizers_of, is_deleting, judge, left_undone, version_of

THEIRS = ("other.org/f", "third.net/g")
REFUSALS = (400, 403, 422, 429, 500, 503)


@dataclass(frozen=True)
class Allowed:
    """What may happen."""

    kills: bool = True
    refusals: bool = True
    losses: bool = True
    others: bool = True
    releases: bool = True
    versions: bool = True


@dataclass
class Told:
    """What has come of a batch: every violation, with what a person needs to look into it."""

    seed: str
    operator: Described
    lives: list[Life] = field(default_factory=list)
    violations: list[tuple[Life, str]] = field(default_factory=list)
    log: str = ""

    def __str__(self) -> str:
        told = [f"seed {self.seed}: {len(self.violations)} violations", str(self.operator)]
        for life in self.lives:
            # The same over and over is said once: what goes on without end has no other end.
            whats = [what for one, what in self.violations if one is life]
            kinds = {re.sub(r"\d+", "N", what): what for what in reversed(whats)}
            if kinds:
                told += [f"  {life.name}: {', '.join(life.script)}"]
                told += [f"  !! {what}" for what in kinds.values()]
                told += [*islice(_history(life), 150)]
        return "\n".join(told).replace(MAIN, "~")


def _history(life: Life) -> Iterator[str]:
    """The versions of an object, and the calls in between."""
    notes = sorted(life.notes, key=lambda note: float(note["at"]))
    for body in life.versions:
        version = version_of(body)
        by = life.others.get(version, "operator")
        state = "deleting" if is_deleting(body) else "alive"
        labels, spec = body["metadata"].get("labels"), json.dumps(body["spec"])
        yield f"    {version} {state} {finalizers_of(body)} {labels} {spec}, by {by}"
        for note in notes:
            if note["version"] == version:
                what = f"{note['handler']} {note['what']}, retry {note['retry']}"
                yield f"        {what}, with {json.dumps(note['spec'])}"
    for note in notes:
        if not note["version"]:
            yield f"        {note['handler']} {note['what']}, retry {note['retry']}: it is gone"


class World:
    """One batch."""

    def __init__(
        self, server: Server, folder: Path, seed: str, *, objects: int, allowed: Allowed
    ) -> None:
        self.server, self.folder, self.seed, self.allowed = server, folder, seed, allowed
        self.chance = random.Random(seed)
        self.operator = Described.at_random(
            self.chance, versions=allowed.versions and self.chance.random() < 0.4
        )
        plural = f"lives{re.sub('[^a-z0-9]', 'x', seed)}"
        self.resource = Resource("example.com", STORED, plural, plural.title())
        self.names = [f"object-{number}" for number in range(objects)]
        self.lives = dict[str, Life]()
        self.told = Told(seed, self.operator)
        self.rules = dict[str, list[Fate]]()
        self.until = dict[str, tuple[float, int]]()
        self.is_over = threading.Event()
        self.at_work = folder / "at work"
        self.lock = threading.Lock()

    def run(self) -> Told:
        """Let it all happen, and judge."""
        self.server.define(
            self.resource.group,
            STORED,
            self.resource.plural,
            kind=self.resource.kind,
            other_versions=[OTHER_VERSION] if self.operator.has_versions else [],
        )
        with contextlib.ExitStack() as stack:
            api = stack.enter_context(contextlib.closing(client_of(self.server)))
            proxy = stack.enter_context(Proxy(self.server))
            proxy.rules.append(self._fate)
            seen = stack.enter_context(api.watching(self.resource.path))
            process = OperatorProcess(
                Path(__file__).with_name("process.py"),
                proxy,
                self.folder / "log",
                resource=self.resource,
                OPERATOR=self.operator.as_json(),
                NOTES=str(self.folder / "notes"),
                AT_WORK=str(self.at_work),
                SERVER=self.server.url,
                **({"TOKEN": proxy.token} if proxy.token else {}),
            )
            api.create(self.resource.path, self.resource.body("first")).raise_for_status()
            stack.enter_context(process)
            killer = threading.Thread(target=self._kill, args=(process,))
            killer.start()
            try:
                with ThreadPoolExecutor(len(self.names)) as pool:
                    list(pool.map(lambda name: self._live(api, name), self.names))
            finally:
                self.is_over.set()
                killer.join()
            self.until.clear()
            self.rules.clear()
            self._until_all_gone(api, process)
            self._judge(api, seen)
            self.told.log = process.output()
        return self.told

    # What happens to the operator, and to its requests

    def _kill(self, process: OperatorProcess) -> None:
        chance = random.Random(f"{self.seed}/kills")
        while not self.at_work.exists() and not self.is_over.wait(0.05):
            pass
        # Not more often: a process that is killed whenever it has just begun gets nowhere.
        for _ in range(3 if self.allowed.kills else 0):
            if self.is_over.wait(chance.uniform(0.5, 3)):
                return
            if chance.random() < 0.7:
                process.kill()
            else:
                process.stop()
            with self.lock:
                for life in self.lives.values():
                    life.faults += 1
            self.is_over.wait(chance.uniform(0, 0.5))
            process.start()

    def _fate(self, asked: Asked) -> Fate | None:
        if asked.method != "PATCH":
            return None
        name = asked.path.removesuffix("/status").rpartition("/")[2]
        with self.lock:
            until, status = self.until.get(name, (0.0, 0))
            if time.monotonic() < until:
                self.lives[name].faults += 1
                return Fate(status)
            if self.rules.get(name):
                self.lives[name].faults += 1
                return self.rules[name].pop()
        return None

    # What happens to an object

    def _live(self, api: Api, name: str) -> None:
        chance = random.Random(f"{self.seed}/{name}")
        labels = {"keep": chance.choice("01")}
        spec = {"size": 0, "flag": chance.random() < 0.5, "ready": chance.random() < 0.5}
        theirs = [one for one in THEIRS if chance.random() < 0.3]
        body = self.resource.body(name, spec=spec, labels=labels, finalizers=theirs)
        created = api.create(self.resource.path, body).raise_for_status().json()
        life = Life(name, created["metadata"]["uid"])
        with self.lock:
            self.lives[name] = life
        if chance.random() < 0.8:  # the others may be gone before the operator is there
            wait_until(self.at_work.exists, timeout=120, what="at work")
        for _ in range(chance.randint(1, 7)):
            self._step(api, life, chance)
            time.sleep(chance.choice([0, 0.01, 0.05, 0.2, 0.5]))
        if chance.random() < 0.5:
            self._settle(api, life)
        self._delete(api, life)
        for _ in range(chance.randint(0, 4)):
            time.sleep(chance.choice([0, 0.01, 0.05, 0.2]))
            self._step(api, life, chance)

    def _step(self, api: Api, life: Life, chance: random.Random) -> None:
        steps: dict[str, float] = {"size": 3, "label": 2, "flag": 1, "ready": 1, "status": 1}
        steps |= {"add theirs": 1, "reverse": 1} if self.allowed.others else {}
        steps |= {"release": 0.5} if self.allowed.releases else {}
        steps |= {"refuse": 1} if self.allowed.refusals else {}
        steps |= {"lose": 0.7} if self.allowed.losses else {}
        step = chance.choices(list(steps), list(steps.values()))[0]
        number = chance.randrange(1, 10**6)
        path = self.resource.path_to(life.name)
        life.script.append(step)
        match step:
            case "size":
                self._write(life, step, api.merge_patch(path, {"spec": {"size": number}}))
            case "flag" | "ready":
                self._write(life, step, api.merge_patch(path, {"spec": {step: number % 2 == 0}}))
            case "label":
                labels = {"labels": {"keep": str(number % 2)}}
                self._write(life, step, api.merge_patch(path, {"metadata": labels}))
            case "status":
                status = {"status": {"number": number}}
                self._write(life, step, api.merge_patch(f"{path}/status", status))
            case "add theirs":
                self._rewrite(api, life, step, lambda names: [*dict.fromkeys([*names, *THEIRS])])
            case "reverse":
                self._rewrite(api, life, step, lambda names: names[::-1])
            case "release":
                purposes = sorted({h.finalizer for h in self.operator.handlers if h.purpose})
                name = chance.choice([*purposes, MAIN])
                life.script[-1] += f" {name}"
                self._rewrite(api, life, step, lambda names: [n for n in names if n != name])
            case "refuse":
                code, seconds = chance.choice(REFUSALS), chance.uniform(0.1, 1)
                life.script[-1] += f" {code} for {seconds:.1f} s"
                with self.lock:
                    self.until[life.name] = (time.monotonic() + seconds, code)
            case "lose":
                with self.lock:
                    self.rules.setdefault(life.name, []).append(Fate(lost=True))

    def _write(self, life: Life, what: str, answer: httpx.Response) -> None:
        """Note which version it was that somebody else has written."""
        if answer.is_success:
            body = answer.json()
            if body["metadata"]["uid"] == life.uid:
                with self.lock:
                    life.others.setdefault(int(body["metadata"]["resourceVersion"]), what)
                if is_deleting(body) and not finalizers_of(body):
                    life.noted.add("gone by others")

    def _rewrite(self, api: Api, life: Life, what: str, change: Any) -> None:
        """Read the list and write it whole, locked to the version."""
        path = self.resource.path_to(life.name)
        for _ in range(20):
            answer = api.get(path)
            if not answer.is_success or answer.json()["metadata"]["uid"] != life.uid:
                return
            body = answer.json()
            before, version = finalizers_of(body), body["metadata"]["resourceVersion"]
            after = [n for n in change(before) if n in before or not is_deleting(body)]
            if after == before:
                return
            metadata = {"finalizers": after, "resourceVersion": version}
            answer = api.merge_patch(path, {"metadata": metadata})
            self._write(life, what, answer)
            if answer.status_code != 409:
                return

    def _settle(self, api: Api, life: Life) -> None:
        """What is not guarded by any filter is handled, also the last change."""
        life.script.append("settle")
        kinds = {h.kind for h in self.operator.handlers if not h.filter and not h.is_given_up}
        # In Kopf all versions of an object have one last state: one takes a change for both.
        if not {"create", "update"} <= kinds or self.operator.has_versions:
            return
        # Without a dedicated finalizer it is Kopf alone who tries again what did not get through.
        if life.faults and not any(handler.purpose for handler in self.operator.handlers):
            return
        spec = api.get(self.resource.path_to(life.name)).raise_for_status().json()["spec"]
        seen = {h.id for h in self.operator.of("create", "update") if not h.filter}

        def is_handled() -> bool:
            return any(
                note["handler"] in seen and note["what"] == "ended" and note["spec"] == spec
                for note in self._notes(life)
            )

        try:
            wait_until(is_handled, timeout=45)
        except TimeoutError:
            self.told.violations.append((life, f"the change to {spec} was not handled in 45 s"))

    def _delete(self, api: Api, life: Life) -> None:
        """As it is read, so that nothing that is stored in between is overlooked."""
        life.script.append("delete")
        path = self.resource.path_to(life.name)
        while (found := api.get(path)).is_success:
            version = found.json()["metadata"]["resourceVersion"]
            answer = api.delete(path, {"preconditions": {"resourceVersion": version}})
            if answer.status_code != 409:
                if answer.is_success and answer.json()["kind"] != "Status":
                    self._write(life, "delete", answer)
                else:
                    life.noted.add("gone by others")
                return

    # What is left, and what is said of it

    def _until_all_gone(self, api: Api, process: OperatorProcess) -> None:
        api.delete(self.resource.path_to("first")).raise_for_status()
        for life in self.lives.values():
            self._rewrite(
                api, life, "theirs go", lambda names: [n for n in names if n not in THEIRS]
            )
        try:
            wait_until(lambda: not api.list(self.resource.path), timeout=120)
        except TimeoutError:
            for body in api.list(self.resource.path):
                name = body["metadata"]["name"]
                life = self.lives.get(name) or Life(name, body["metadata"]["uid"])
                self.told.violations.append((life, f"it is stuck: {finalizers_of(body)}"))

    def _notes(self, life: Life) -> Iterator[dict[str, Any]]:
        notes = self.folder / "notes"
        text = notes.read_text() if notes.exists() else ""
        for line in text.splitlines(keepends=True):
            if not line.endswith("\n"):
                return  # it is being written
            note: dict[str, Any] = json.loads(line)
            if note["uid"] == life.uid:
                yield note

    def _judge(self, api: Api, seen: Watched) -> None:
        left = {body["metadata"]["name"] for body in api.list(self.resource.path)}
        for name, life in self.lives.items():
            if name not in left:
                seen.wait_for("DELETED", name)
                life.is_gone = True
            life.notes = list(self._notes(life))
            life.versions = [body for type_, body in seen.of(name) if type_ != "DELETED"]
            for what in (*judge(life, self.operator), *left_undone(life, self.operator)):
                self.told.violations.append((life, what))
        self.told.lives = list(self.lives.values())


def batch(
    server: Server, folder: Path, seed: str, *, objects: int = 10, allowed: Allowed = Allowed()
) -> Told:
    """Run one."""
    return World(server, folder, seed, objects=objects, allowed=allowed).run()
