"""Every warning and error has a code, under which the page says its cause and its cure."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kopf_finalizers"
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()

CODE = re.compile(r" \[([a-z]+(?:-[a-z]+)*)\](?= To release it: |$)")


def text_of(node: ast.expr) -> str:
    """What a message says, with an ellipsis for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"%[sr]", "…", text)
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
        case _:
            return "…"


def messages() -> Iterator[tuple[str, str]]:
    """Each message with where it is: of errors, of warnings, and of what ends with a code."""
    for path in sorted(PACKAGE.rglob("*.py")):
        # The server for tests says what a real one says, and the command what is wrong with it.
        if {"testing", "_cli", "_cluster"} & set(path.parts):
            continue
        for line, text in messages_in(ast.parse(path.read_text())):
            yield f"{path.relative_to(ROOT)}:{line}", text


def messages_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    """What is wholly made elsewhere is found there, by its code."""
    text = message_in(node)
    if text is not None and text != "…":
        yield getattr(node, "lineno", 0), re.sub(r"…(?: …)+", "…", text)
    else:
        for child in ast.iter_child_nodes(node):
            yield from messages_in(child)


def message_in(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id="ConfigurationError"), args=[text, *_]):
            return text_of(text)
        case ast.Call(func=ast.Attribute(attr="warning" | "exception"), args=[text, *_]):
            return text_of(text)
        case ast.Constant(value=str()) | ast.JoinedStr() | ast.BinOp():
            return said if CODE.search(said := text_of(node)) else None
    return None


MESSAGES = sorted({text: where for where, text in messages()}.items())
SECTIONS = dict(re.findall(r"^### ([a-z-]+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(("text", "where"), MESSAGES, ids=[where for _, where in MESSAGES])
def test_a_message_is_on_the_page(text: str, where: str) -> None:
    """Under the code that it ends with, with its own first words."""
    code = CODE.search(text)
    assert code, f"{where} has no code, such as [no-dot], at its end: {text}"
    assert code[1] in SECTIONS, f"{where}: docs/troubleshooting.md has no section {code[1]}"
    beginnings = re.findall(r"`([^`]+)`", SECTIONS[code[1]])
    assert any(text.startswith(one) for one in beginnings), (
        f"{where}: under {code[1]}, docs/troubleshooting.md has no message that begins so: {text}"
    )


@pytest.mark.parametrize("code", SECTIONS)
def test_a_code_of_the_page_is_in_a_message(code: str) -> None:
    """Nobody would find it otherwise."""
    assert code in {found[1] for text, _ in MESSAGES if (found := CODE.search(text))}


@pytest.mark.parametrize("code", SECTIONS)
def test_a_code_has_a_cause_and_a_cure(code: str) -> None:
    """The reader wants to know both."""
    assert "**Cause:**" in SECTIONS[code]
    assert "**Cure:**" in SECTIONS[code]
