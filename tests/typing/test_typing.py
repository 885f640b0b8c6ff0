"""What type checkers say to users: right usage is taken, and each wrong usage is an error."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed, so no types were checked")

ROOT = Path(__file__).parents[2]
USAGE = ROOT / "tests" / "typing"

IGNORE = re.compile(r"  # type: ignore\[([a-z-]+)\]")


def errors_of(*files: Path) -> list[str]:
    """What `mypy --strict` finds, a line for each error."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--hide-error-context",
    ]
    found = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stderr == ""
    return [line for line in found.stdout.splitlines() if ": error: " in line]


def test_right_usage_is_taken_and_wrong_usage_is_refused() -> None:
    """Decorated functions keep their types, and no expected error has gone missing."""
    assert errors_of(*USAGE.glob("*.py")) == []


def test_each_wrong_usage_is_an_error_of_its_own(tmp_path: Path) -> None:
    """Without the comments that expect them, the very same errors are found."""
    usage = (USAGE / "wrong.py").read_text()
    expected = [
        (number, code.group(1))
        for number, line in enumerate(usage.splitlines(), start=1)
        if (code := IGNORE.search(line))
    ]
    copy = tmp_path / "wrong_usage.py"
    copy.write_text(IGNORE.sub("", usage))
    found = [re.match(r"[^:]*:(\d+):.*\[([a-z-]+)\]$", line) for line in errors_of(copy)]
    assert [(int(error[1]), error[2]) for error in found if error] == expected
    assert len(expected) == len(found)
