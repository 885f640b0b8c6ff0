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
    pinned = Path("constraints.txt").read_text().splitlines()
    pins = [pin for pin in pinned if not pin.startswith(("kopf==", "pip=="))]
    if kopf != "newest":
        pins.append(f"kopf=={kopf}")
    constraints = Path(session.create_tmp(), "constraints.txt")
    constraints.write_text("\n".join(pins))
    session.install("-c", str(constraints), "-e", ".[testing]", "--group", "test")
    session.run("python", "-c", "import kopf; print('Kopf', kopf.__version__)")
    session.run("pytest", *session.posargs)
