"""The documentation: `make docs` builds it into `docs/_build/html`, without a network."""

import html
import os
import pkgutil
import re
import textwrap
from importlib import metadata
from typing import Any

import kopf_finalizers
from docutils import nodes
from sphinx.pycode import ModuleAnalyzer

project = "kopf-finalizers"
author = "the kopf-finalizers authors"
copyright = author  # noqa: A001 - Sphinx's name
release = metadata.version("kopf-finalizers")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "myst_parser",
    "notfound.extension",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "kopf-finalizers"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_domain_indices = False  # of modules: the general index has them
html_theme_options = {"navigation_with_keys": True}

# A button copies what is typed: commands without their prompts, and not what they print.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
# Where the site is served from is not known: the page for wrong addresses links from its root.
notfound_urls_prefix = os.environ.get("SITE_ROOT", "/")

# Links to headings are checked like all others: `[...](names.md#several-instances)`.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# All names are imported from `kopf_finalizers`, or from where a section of the reference says.
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
napoleon_use_ivar = True

# Where Kopf's and Python's references have the names that are linked to: kept here, as text, so
# that no network is needed. See CONTRIBUTING.
intersphinx_mapping = {
    "kopf": ("https://docs.kopf.dev/en/stable", "inventories/kopf.inv"),
    "python": ("https://docs.python.org/3", "inventories/python.inv"),
}

_LINKED = {*kopf_finalizers.__all__, "ValueError", "TypeError"}
_CODE = re.compile(r"(?<![`:])`([^`\n]+)`(?![`_])")


def _literal(match: re.Match[str]) -> str:
    """What is code in a docstring: a link where it is a name with a reference, else a literal."""
    code = match.group(1)
    if code.startswith("kopf.") and re.fullmatch(r"[\w.]+", code):
        return f":py:obj:`{code}`"
    if code.partition(".")[0] in _LINKED and re.fullmatch(r"[\w.]+", code):
        return f":py:obj:`{code} <kopf_finalizers.{code}>`"
    return f"``{code}``"


def _as_rst(
    app: Any,  # noqa: ARG001 - Sphinx gives six, and one is needed
    what: str,
    name: str,
    obj: Any,  # noqa: ARG001
    options: Any,  # noqa: ARG001
    lines: list[str],
) -> None:
    """Docstrings are written for readers of the code, with Markdown's backticks."""
    if what == "data" and (own := _DATA.get(name.rpartition(".")[2])):
        lines[:] = own  # in place of what Python says of all annotated types
    lines[:] = [
        line for line in lines if not line.startswith("PYTEST_DONT_REWRITE")
    ]
    lines[:] = [
        line if ">>>" in line else _CODE.sub(_literal, line) for line in lines
    ]
    if what in ("attribute", "data", "property"):
        # Napoleon takes what is before a colon for a type.
        lines[0] = lines[0].replace(": ", " \N{EN DASH} ")


# What a function takes is shown once: its overloads are for type checkers.
for module in pkgutil.walk_packages(kopf_finalizers.__path__, "kopf_finalizers."):
    if module.name != "kopf_finalizers.__main__":
        analyzer = ModuleAnalyzer.for_module(module.name)
        analyzer.analyze()
        analyzer.overloads.clear()

# What stands under the types that are made of others, which Python does not keep.
_DATA = {
    name: text
    for (_, name), text in ModuleAnalyzer.for_module("kopf_finalizers._names")
    .find_attr_docs()
    .items()
}


def _plain(
    app: Any,  # noqa: ARG001 - as above
    what: str,  # noqa: ARG001
    name: str,
    obj: Any,  # noqa: ARG001
    options: Any,  # noqa: ARG001
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """Signatures without names that nobody imports."""
    if signature is None:
        return None
    for private, plain in {
        r"arg1: .*arg3: [^=]*= None, /, \*, ": "*resource: Any, ",
        r"~?[\w.]*LeftOut \| | \| ~?[\w.]*LeftOut": "",
        r"LEFT_OUT": "...",
        r"~?[\w.]*Unpack\[[^\]]*\]": "Any",
    }.items():
        signature = re.sub(private, plain, signature)
    return signature, None if "._on.On." in name else returns


def _published(
    app: Any,  # noqa: ARG001 - as above
    env: Any,  # noqa: ARG001
    node: Any,
    contnode: Any,  # noqa: ARG001
) -> None:
    """Kopf's types are linked to under the names that Kopf publishes."""
    target = node.get("reftarget", "")
    if target.startswith("kopf._"):
        node["reftarget"] = f"kopf.{target.rpartition('.')[2]}"


def _without_aliases(app: Any, doctree: Any) -> None:  # noqa: ARG001 - as above
    """What an annotated type is made of is nothing that a reader could use."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext().startswith("alias of "):
            paragraph.parent.remove(paragraph)


def _described(
    app: Any,  # noqa: ARG001 - as above
    pagename: str,  # noqa: ARG001
    templatename: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: Any,
) -> None:
    """What a search engine shows of a page: its first sentences."""
    if doctree is None:  # the search, the index
        return
    paragraphs = doctree.findall(nodes.paragraph)
    text = " ".join(next((each.astext() for each in paragraphs), "").split())
    words = html.escape(
        textwrap.shorten(text, 160, placeholder="\N{HORIZONTAL ELLIPSIS}")
    )
    context["metatags"] += f'<meta name="description" content="{words}" />'


def setup(app: Any) -> None:
    """Have docstrings read as they are written."""
    app.connect("missing-reference", _published, priority=100)  # before intersphinx
    app.connect("autodoc-process-signature", _plain)
    app.connect("html-page-context", _described)
    app.connect("doctree-read", _without_aliases)
    app.connect(
        "autodoc-process-docstring", _as_rst, priority=400
    )  # before napoleon
