"""The tests on each Kopf and each Python that the machine has: `make matrix`, or `nox`."""

import os
import shutil
import subprocess
from pathlib import Path

import nox

# A Python that is not there is skipped, and named at the end.
nox.options.error_on_missing_interpreters = False

if (pyenv := shutil.which("pyenv")) and "PYENV_VERSION" not in os.environ:
    # Its commands work only for the versions that are asked for: ask for all.
    known = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, check=True)  # noqa: S603
    os.environ["PYENV_VERSION"] = ":".join(known.stdout.decode().split())


@nox.session(python=["3.11", "3.12", "3.13"])
@nox.parametrize("kopf", ["1.44.0", "newest"])
def tests(session: nox.Session, kopf: str) -> None:
    """Run the tests with one Kopf; everything else is pinned as ever."""
    pins = _pins()
    if kopf != "newest":
        pins.append(f"kopf=={kopf}")
    _install(session, pins)
    session.run("python", "-c", "import kopf; print('Kopf', kopf.__version__)")
    session.run("pytest", *session.posargs)


@nox.session(python="3.13", default=False)
def prerelease(session: nox.Session) -> None:
    """Run the tests with Kopf's newest pre-release; skipped where the newest Kopf is none."""
    pins = _pins()
    _install(session, pins)
    session.install("--pre", "--upgrade", "--no-deps", "kopf")
    code = "from importlib.metadata import version as of; print(of('kopf'))"
    found = str(session.run("python", "-c", code, silent=True)).strip()
    if found.replace(".", "").isdecimal():
        session.skip(f"There is no pre-release of Kopf: {found} is the newest.")
    session.install("kopf")  # and what it needs that the release before did not
    session.run("pytest", *session.posargs)


def _pins() -> list[str]:
    """What development uses, but for Kopf."""
    pinned = Path("constraints.txt").read_text().splitlines()
    return [pin for pin in pinned if not pin.startswith(("kopf==", "pip=="))]


def _install(session: nox.Session, pins: list[str]) -> None:
    constraints = Path(session.create_tmp(), "constraints.txt")
    constraints.write_text("\n".join(pins))
    session.install("-c", str(constraints), "-e", ".[testing]", "--group", "test")
