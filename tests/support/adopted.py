"""Operators that do not use the library yet, and what becomes of them release by release."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf

from kopf_finalizers._cli.loading import operator_in

from .commands import run, told
from .operators import running
from .servers import Api, Resource, Server, wait_until

HANDLERS = """

import pathlib
from typing import Any

CALLS = pathlib.Path("{calls}")
GATE = pathlib.Path("{gate}")


def note(what: str, name: str) -> None:
    with CALLS.open("a") as calls:
        calls.write(f"{{what}} {{name}}\\n")


@kopf.on.create("example.com", "v1", "things")
def create_fn(name: str, **_: Any) -> None:
    note("create", name)


@kopf.on.create("example.com", "v1", "things")
def create_slowly(name: str, retry: int, **_: Any) -> None:
    if name == "waiting" and not GATE.exists():
        note(f"attempt {{retry}} of", name)
        raise kopf.TemporaryError("busy", delay=0.2)
    note("create slowly", name)


@kopf.on.update("example.com", "v1", "things", field="spec.size")
def update_fn(name: str, **_: Any) -> None:
    note("update", name)

"""

CLEANUP = """
@kopf.on.delete("example.com", "v1", "things")
def delete_fn(name: str, **_: Any) -> None:
    note("delete", name)
"""


@dataclass
class Adopted:
    """One operator, in one release after the other."""

    server: Server
    api: Api
    resource: Resource
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "reports_operator.py"

    @property
    def gate(self) -> Path:
        """When it is there, the creation that waits goes on."""
        return self.folder / "gate"

    def write(self, settings: str, *, cleanup: bool = True) -> None:
        """The operator before it is adopted; what sets its names is at its head."""
        handlers = HANDLERS.format(calls=self.folder / "calls", gate=self.gate)
        self.file.write_text(f"import kopf\n{settings}\n{handlers}{CLEANUP if cleanup else ''}")

    def adopt(self, *options: str) -> dict[str, Any]:
        """What the command says of it."""
        where = ["-n", str(self.resource.namespace), "-o", "json"]
        result = run("adopt", str(self.file), *where, *options, on=self.server)
        answer: dict[str, Any] = told(result)
        return answer | {"code": result.exit_code}

    def without(self, spans: list[Mapping[str, Any]]) -> str:
        """Its text without the lines that have to go."""
        lines = self.file.read_text().splitlines()
        for span in spans:
            assert Path(span["file"]).name == self.file.name
            there = range(span["first"] - 1, span["last"])
            indent = lines[there[0]][: len(lines[there[0]]) - len(lines[there[0]].lstrip())]
            for number in there:
                lines[number] = ""
            if span["leavesNothing"]:
                lines[there[0]] = f"{indent}pass"
        return "\n".join(lines)

    @contextlib.contextmanager
    def running(self, release: str | None = None, rest: str | None = None) -> Iterator[None]:
        """The operator as it is, or a release: what it says, at the head of what is left."""
        if release is not None:
            self.file.write_text(f"{release}\n\nimport kopf\n{rest}")
        registry, _ = operator_in((str(self.file),), (), verbose=True)
        with running(registry, self.server, self.resource, settings=kopf.OperatorSettings()):
            yield

    def calls(self) -> Counter[str]:
        file = self.folder / "calls"
        return Counter(file.read_text().splitlines() if file.exists() else [])

    def attempts(self) -> list[int]:
        """How often the creation that waits was tried, by its own count."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [int(one.split()[1]) for one in lines if one.startswith("attempt")]

    def create(self, *names: str) -> None:
        for name in names:
            body = self.resource.body(name, spec={"size": 1})
            self.api.create(self.resource.path, body).raise_for_status()

    def resize(self, name: str, size: int) -> None:
        patch = {"spec": {"size": size}}
        self.api.merge_patch(self.resource.path_to(name), patch).raise_for_status()

    def delete(self, *names: str) -> None:
        for name in names:
            self.api.delete(self.resource.path_to(name)).raise_for_status()

    def metadata(self, name: str) -> dict[str, Any]:
        return dict(self.api.get(self.resource.path_to(name)).json()["metadata"])

    def carries(self, name: str, finalizers: list[str]) -> bool:
        """Whether an object has these finalizers, and no others."""
        return list(self.metadata(name).get("finalizers", [])) == finalizers

    def tried_again(self, than: int) -> None:
        """Wait for another attempt of the creation that waits."""
        wait_until(lambda: len(self.attempts()) > than + 1, what=json.dumps(self.attempts()))
