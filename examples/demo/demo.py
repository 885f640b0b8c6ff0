"""Two Kopf operators on one resource: with Kopf's default names, and with kopf-finalizers.

Operator A must clean up after each object, operator B only watches. Both run as users run them:
`kopf run`, each in a process of its own. What happens to the object is counted by a watch at the
API server: the one inside this process, or the cluster of `--kubeconfig`.
"""

import argparse
import asyncio
import contextlib
import difflib
import os
import secrets
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from cluster import Body, Cluster, until
from kopf_finalizers.testing import ApiServer

OPERATORS = Path(__file__).parent / "operators"


@dataclass
class Story:
    """What has happened to one object, as the API server tells it."""

    name: str
    folder: Path
    added: int = 0
    removed: int = 0
    writes: int = 0
    gone: bool = False
    cleaned_up: bool = False
    finalizers: set[str] = field(default_factory=set)
    ever: dict[str, None] = field(default_factory=dict)

    def see(self, event: str, body: Body) -> None:
        """Count one event of the watch. An object that is gone had no finalizer left."""
        if body["metadata"]["name"] != self.name:
            return
        self.gone = event == "DELETED"
        self.writes += event == "MODIFIED"
        now = set() if self.gone else set(body["metadata"].get("finalizers") or ())
        self.added += len(now - self.finalizers)
        self.removed += len(self.finalizers - now)
        self.finalizers = now
        self.ever |= dict.fromkeys(now)
        if self.gone:
            self.cleaned_up = self.has("dropped")

    def has(self, what: str) -> bool:
        """What the operators have left behind of what they did."""
        return (self.folder / f"{self.name}.{what}").exists()

    @property
    def cleanup(self) -> str:
        """Whether A has cleaned up, in words."""
        if self.cleaned_up:
            return "yes"
        return "no, it was gone meanwhile" if self.has("dropping") else "no, A was never asked to"

    @property
    def keeps_the_promise(self) -> bool:
        """Whether it went as it should: added once, taken off once, by its owner, in time."""
        return (self.added, self.removed, self.cleaned_up) == (1, 1, True)


async def play(cluster: Cluster, suffix: str, seconds: float, folder: Path) -> Story:
    """One object's life beside both operators: created, left alone for a while, deleted."""
    story = Story(f"{suffix}-{secrets.token_hex(3)}", folder)
    try:
        async with cluster.watching(story.see):
            await cluster.create(story.name)
            async with operator(f"a_{suffix}", folder) as a, operator(f"b_{suffix}", folder) as b:
                await until(
                    lambda: (story.added and story.has("seen")) or has_ended(a, b),
                    "both operators have seen the object",
                )
                await asyncio.sleep(seconds)
                await cluster.delete(story.name)
                await until(lambda: story.gone or has_ended(a, b), "the object is gone")
    finally:
        if not story.gone:
            await cluster.purge(story.name)
    return story


@contextlib.asynccontextmanager
async def operator(name: str, folder: Path) -> AsyncIterator[Process]:
    """`kopf run` in a process of its own, ended with the block."""
    log = folder / f"{name}.log"
    arguments = ["--standalone", "--namespace=default", str(OPERATORS / f"{name}.py")]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kopf", "run", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends its operators.
            env=os.environ | {"DEMO_FOLDER": str(folder)},
        )
    try:
        yield process
    except Exception:
        print(f"--- {log.name}\n{log.read_text()[-4000:]}", file=sys.stderr)
        raise
    finally:
        for stop in (process.terminate, process.kill):
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                stop()
                await asyncio.wait_for(process.wait(), timeout=10)


def has_ended(*processes: Process) -> bool:
    if any(process.returncode is not None for process in processes):
        raise RuntimeError("An operator has ended by itself.")
    return False


def report(before: Story, after: Story, server: ApiServer | None) -> str:
    """What happened, side by side."""
    stories = before, after
    rows = [
        ("", "Kopf's default names", "with kopf-finalizers"),
        ("finalizer of A", *(", ".join(story.ever) for story in stories)),
        ("how often it was added", *(story.added for story in stories)),
        ("how often it was taken off", *(story.removed for story in stories)),
        ("writes to the object", *(story.writes for story in stories)),
    ]
    if server is not None:
        rows.append(("PATCH requests", *(patches(server, story.name) for story in stories)))
    rows.append(("A cleaned up before it was gone", *(story.cleanup for story in stories)))
    return "\n".join(f"{label:33}{left!s:38}{right!s}".rstrip() for label, left, right in rows)


def patches(server: ApiServer, name: str) -> int:
    return sum(asked.method == "PATCH" and name in asked.path for asked in server.requests)


def change(name: str) -> str:
    """What a user changes in an operator."""
    before, after = (
        (OPERATORS / f"{name}_{suffix}.py").read_text().splitlines(keepends=True)
        for suffix in ("before", "after")
    )
    diff = difflib.unified_diff(before, after, f"operator_{name}.py", f"operator_{name}.py", n=1)
    return "".join(diff)


async def tell(seconds: float, server: ApiServer | None) -> int:
    """Play both halves and print what happened; the exit code is that of the second."""
    where = "the API server inside this process" if server else "the cluster"
    print(f"Two operators and one object on {where}, twice for {seconds:g} s ...\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="kopf-finalizers-demo-") as folder:
        async with Cluster() as cluster:
            before = await play(cluster, "before", seconds, Path(folder))
            after = await play(cluster, "after", seconds, Path(folder))
    print(report(before, after, server))
    print(f"\nWhat was changed in the operators:\n\n{change('a')}\n{change('b')}")
    if after.keeps_the_promise:
        return 0
    print("kopf-finalizers has not kept its promise: added once, taken off once, cleaned up.")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="a cluster to run on instead")
    parser.add_argument("--seconds", type=float, default=5, help="how long the object lives")
    options = parser.parse_args()
    # Also as a background job, for which a shell has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Both end it in order; a shell has a job in the background ignore the first.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with contextlib.ExitStack() as stack:
        server = None if options.kubeconfig else stack.enter_context(ApiServer())
        os.environ["KUBECONFIG"] = str(server.kubeconfig if server else options.kubeconfig)
        try:
            return asyncio.run(tell(options.seconds, server))
        except KeyboardInterrupt:
            return 130


if __name__ == "__main__":
    sys.exit(main())
