"""The shape of the repository: what a reader can hold in mind."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("folder", "lines"), [("kopf_finalizers", 450), ("tests", 600)])
def test_each_file_can_be_read_in_one_sitting(folder: str, lines: int) -> None:
    """One that has grown too long holds two matters: it is split by these."""
    files = sorted((ROOT / folder).rglob("*.py"))
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert len(lengths) > 30
    assert {file: length for file, length in lengths.items() if length > lines} == {}


def test_what_is_not_promised_begins_with_an_underscore() -> None:
    """Whoever imports a module without one may rely on it."""
    package = ROOT / "kopf_finalizers"
    public = {path.name for path in package.iterdir() if not path.name.startswith((".", "_"))}
    assert public == {"instrumentation", "testing", "py.typed"}
