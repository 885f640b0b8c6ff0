"""The tests on other versions, and the release: `make matrix`, `make lowest`, `make release`."""

import os
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]

nox.options.sessions = ["tests"]
# A Python that is not there is skipped, and named at the end.
nox.options.error_on_missing_interpreters = False

if (pyenv := shutil.which("pyenv")) and "PYENV_VERSION" not in os.environ:
    # Its commands work only for the versions that are asked for: ask for all.
    known = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, check=True)  # noqa: S603
    os.environ["PYENV_VERSION"] = ":".join(known.stdout.decode().split())


@nox.session(python=PYTHONS)
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


@nox.session(python=PYTHONS)
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest versions that the package says it takes, as uv chooses them."""
    oldest = Path(session.create_tmp(), "lowest.txt")
    session.install("--constraint", "constraints.txt", "uv")
    options = ("--resolution=lowest-direct", "--extra=testing", "--no-annotate", "--no-header")
    session.run("uv", "pip", "compile", *options, f"--output-file={oldest}", "pyproject.toml")
    session.install(
        *("--only-binary=:all:", "--constraint", str(oldest)),
        *("--editable", ".[testing]", "--group", "test"),
    )
    session.run("pytest", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Build what is released, and see that it is whole: with the tag as an argument, if any."""
    version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
    for tag in session.posargs:
        refuse_to_release(session, tag, version)
    shutil.rmtree("dist", ignore_errors=True)
    session.install("--constraint", "constraints.txt", "hatchling")
    session.run("python", "-m", "hatchling", "build")
    name = f"kopf_finalizers-{version}"
    folder = Path(session.create_tmp()).resolve()
    # The wheel, where there is nothing else.
    session.install("--constraint", "constraints.txt", f"dist/{name}-py3-none-any.whl")
    with session.chdir(folder):
        said = "import kopf_finalizers as it; print(it.__version__, it.__file__)"
        session.run("python", "-c", said)
        session.run("kopf-finalizers", "name", "--domain=mycompany.com", "--operator=db")
    # The source distribution: all that is needed to build the site and to run the tests.
    with tarfile.open(f"dist/{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    with session.chdir(folder / name):
        session.install(
            *("--constraint", "constraints.txt", "--editable", ".[testing]"),
            *("--group", "test", "--group", "docs"),
        )
        session.run("python", "-m", "sphinx", "--quiet", "--fail-on-warning", "docs", "site")
        session.run("pytest", "tests/unit", "tests/cycles", "tests/docs")


def refuse_to_release(session: nox.Session, tag: str, version: str) -> None:
    """Say what a tag, the version and the changelog disagree about."""
    changes = Path("CHANGELOG.md").read_text()
    if tag != f"v{version}":
        session.error(f"The tag {tag} is not v{version}, which is the version in pyproject.toml.")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changes, re.MULTILINE):
        session.error(f"CHANGELOG.md has no heading [{version}] with a date.")
    unreleased = re.search(
        r"^## \[Unreleased\]\n(.*?)(?=^## \[|\Z)", changes, re.DOTALL | re.MULTILINE
    )
    if unreleased and unreleased[1].strip():
        session.error("CHANGELOG.md still has changes under [Unreleased].")
