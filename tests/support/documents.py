"""The pages of the documentation, and the code in them."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

_BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def code_of(page: Path) -> Iterator[tuple[int, str]]:
    """The Python blocks of a page, each with its line."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        yield text.count("\n", 0, block.start(2)), textwrap.dedent(block.group(2))


def begins_a_file(code: str) -> bool:
    """A block that begins with an import is a new file; the others go on from the one before."""
    return code.startswith(("import ", "from "))
