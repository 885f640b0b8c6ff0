"""What a package index shows of the project: the README and the links, made from one address.

On a package index a link to a file of the repository leads nowhere, and a picture of it is not
shown. With the project's address in `pyproject.toml` they lead to the repository. Without it the
README says which file in the repository is meant, and what the picture shows.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"!\[([^\]]+)\]\((?!https:)([^)]+)\)")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https:)([^)]+)\)")


class ProjectLinks(MetadataHookInterface):
    """Hatchling's name for what completes the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README and the links."""
        repository: str = self.config["repository"]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": readme_for_an_index(text, repository),
        }
        metadata["urls"] = urls(repository)


def readme_for_an_index(text: str, repository: str) -> str:
    """The README where there is no repository around it."""
    if not repository:
        text = _PICTURE.sub(r"*\1*", text)
        return _LINK.sub(r"\1 (in the repository, `\2`)", text)
    text = _PICTURE.sub(rf"![\1]({repository}/raw/main/\2)", text)
    return _LINK.sub(rf"[\1]({repository}/blob/main/\2)", text)


def urls(repository: str) -> dict[str, str]:
    """The links beside it, as GitHub and what is like it have them."""
    if not repository:
        return {}
    return {
        "Documentation": f"{repository}/blob/main/docs/index.md",
        "Source": repository,
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
