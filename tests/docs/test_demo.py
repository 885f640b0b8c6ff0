"""The demo, as a user runs it: what it prints, how it ends, and that it leaves nothing behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.servers import KubeApiServer, wait_until

DEMO = Path(__file__).parents[2] / "examples" / "demo"


@contextlib.contextmanager
def demo(tmp_path: Path, *arguments: str, folder: Path = DEMO) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process of its own, with a folder for its temporary files."""
    with subprocess.Popen(
        [sys.executable, str(folder / "demo.py"), *arguments],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def rows_of(output: str) -> dict[str, list[str]]:
    """The table that the demo prints: what stands in the two columns of each row."""
    head = next(line for line in output.splitlines() if "with kopf-finalizers" in line)
    left, right = head.index("Kopf's"), head.index("with")
    lines = output[output.index(head) :].partition("\n\n")[0].splitlines()
    return {line[:left].strip(): [line[left:right].strip(), line[right:]] for line in lines[1:]}


@pytest.mark.parametrize("where", ["in-process", "kube-apiserver"])
def test_the_demo_shows_the_difference(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Kopf's default names flap and no cleanup is done; with the library all is done once."""
    arguments = ["--seconds=1"]
    if where == "kube-apiserver":
        server: KubeApiServer = request.getfixturevalue("real_server")
        arguments.append(f"--kubeconfig={server.kubeconfig}")
    with demo(tmp_path, *arguments) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    rows = rows_of(output)
    assert rows["finalizer of A"] == ["kopf.zalando.org/KopfFinalizerMarker", "example.com/backups"]
    for row in ("how often it was added", "how often it was taken off"):
        before, after = map(int, rows[row])
        assert before > 5
        assert after == 1
    before, after = map(int, rows["writes to the object"])
    assert before > 10 > after
    before_, after_ = rows["A cleaned up before it was gone"]
    assert before_.startswith("no, ")
    assert after_ == "yes"
    assert '+kopf_finalizers.configure(domain="example.com", operator="backups")' in output
    assert list(tmp_path.iterdir()) == []


def test_the_demo_fails_where_the_library_would_not_help(tmp_path: Path) -> None:
    """The exit code tells whether the library's half has done what it promises."""
    folder = shutil.copytree(DEMO, tmp_path / "demo")
    for name in ("a", "b"):
        shutil.copy(folder / f"operators/{name}_before.py", folder / f"operators/{name}_after.py")
    with demo(tmp_path, "--seconds=1", folder=folder) as process:
        output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "has not kept its promise" in output


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the child processes")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_what_it_has_started(how: signal.Signals, tmp_path: Path) -> None:
    """After Ctrl-C both operators have ended and no file is left."""
    with demo(tmp_path, "--seconds=100") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: list(tmp_path.glob("*/*.seen")), what="the operators are at work")
        operators = children.read_text().split()
        assert len(operators) == 2
        process.send_signal(how)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert not [pid for pid in operators if Path("/proc", pid).exists()]
    assert list(tmp_path.iterdir()) == []
