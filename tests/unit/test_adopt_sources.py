"""What an operator's source says of its names, read without running anything of it."""

import importlib.util
import itertools
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import kopf
import pytest

from kopf_finalizers._adoption.reading import Reading, Said, read
from kopf_finalizers._adoption.sources import NAMES, Source
from kopf_finalizers._adoption.values import OwnStorage, Storage

_numbers = itertools.count()


def module_of(folder: Path, text: str) -> ModuleType:
    """A module that is imported."""
    name = f"operator_{next(_numbers)}"
    path = folder / f"{name}.py"
    path.write_text("import kopf, enum, os, dataclasses\n" + textwrap.dedent(text))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    del sys.modules[name]
    return module


def source_of(folder: Path, text: str) -> Source:
    source = Source.of(module_of(folder, text))
    assert source is not None
    return source


def handle(**_: object) -> None:
    """The operator's only handler."""


def reading_of(folder: Path, text: str, **said: str) -> Reading:
    registry = kopf.OperatorRegistry()
    kopf.on.create("things", registry=registry)(handle)
    return read([source_of(folder, text)], registry, Said(**said))


def startup(*lines: str) -> str:
    """A startup handler."""
    body = "\n".join(f"    {line}" for line in lines)
    return f"@kopf.on.startup(registry=kopf.OperatorRegistry())\ndef conf(settings, **_):\n{body}\n"


# The finalizer


@pytest.mark.parametrize(
    ("head", "expression"),
    [
        ("", '"a.io/f"'),
        ("NAME = 'a.io/f'", "NAME"),
        ("GROUP = 'a.io'", 'f"{GROUP}/f"'),
        ("GROUP = 'a.io'", 'GROUP + "/f"'),
        ("class Names:\n    FINALIZER = 'a.io/f'", "Names.FINALIZER"),
        ("class Names(enum.Enum):\n    FINALIZER = 'a.io/f'", "Names.FINALIZER.value"),
        ("class Names(enum.StrEnum):\n    FINALIZER = 'a.io/f'", "Names.FINALIZER"),
        ("@dataclasses.dataclass\nclass C:\n    name: str = 'a.io/f'\nC = C()", "C.name"),
    ],
)
def test_a_name_is_told_where_running_nothing_tells_it(
    tmp_path: Path, head: str, expression: str
) -> None:
    """Constants, names of a module, and what is put together of them."""
    text = f"{head}\n{startup(f'settings.persistence.finalizer = {expression}')}"
    reading = reading_of(tmp_path, text)
    assert reading.today.finalizers == ("a.io/f",)
    assert reading.is_told


@pytest.mark.parametrize(
    ("head", "expression"),
    [
        ("", 'os.environ["FINALIZER"]'),
        ("", "settings.name"),
        ("", "name"),
        ("def f():\n    return 'a.io/f'", "f()"),
        ("class C:\n    @property\n    def name(self): return 'a.io/f'\nC = C()", "C.name"),
        ("class C: ...", "C.name"),
        ("X = 1.5", "X"),
        ("", "f'{1.5}/f'"),
        ("", "f'{kopf!r}/f'"),
        ("", '"a.io/f" if os.name else "b.io/f"'),
        ("NAME = ['a.io']", 'NAME + "/f"'),
        ("", '["a.io/f"]'),
        ("class C:\n    x = len", "C.x('a')"),
        ("", "os.nothing()"),
        ("", "kopf.ConnectionInfo('a')"),
    ],
)
def test_what_only_running_it_would_tell_is_not_guessed(
    tmp_path: Path, head: str, expression: str
) -> None:
    """It is said, with the line and what to do."""
    text = f"{head}\n{startup(f'settings.persistence.finalizer = {expression}')}"
    reading = reading_of(tmp_path, text)
    assert reading.value("finalizer") == "not told"
    (why,) = reading.unknown.values()
    assert "only running it would tell" in why
    assert why.endswith("say it with --former.")
    assert reading.today.finalizers == ("kopf.zalando.org/KopfFinalizerMarker",)


@pytest.mark.parametrize(
    "lines",
    [
        ["persistence = settings.persistence", "persistence.finalizer = 'a.io/f'"],
        ["name = 'a.io/f'", "settings.persistence.finalizer = name"],
        ["settings.persistence.finalizer: str = 'a.io/f'"],
        ["try: settings.persistence.finalizer = 'a.io/f'", "except ValueError: raise"],
        ["setattr(settings.persistence, 'finalizer', 'a.io/f')"],
        ["x, settings.persistence.finalizer = 1, 'a.io/f'"],
        ["settings.persistence.finalizer = x = 'a.io/f'"],
        ["_['settings'].persistence.finalizer = 'a.io/f'"],
        ["setattr(settings, 'x', 1)", "settings.persistence.finalizer = 'a.io/f'"],
        ["setattr(settings.persistence, 'x', 1)", "settings.persistence.finalizer = 'a.io/f'"],
        ["settings.finalizer = 'b.io/f'", "settings.persistence.finalizer = 'a.io/f'"],
    ],
)
def test_it_may_be_set_in_any_words(tmp_path: Path, lines: list[str]) -> None:
    """All that Python has for it."""
    assert reading_of(tmp_path, startup(*lines)).today.finalizers == ("a.io/f",)


@pytest.mark.parametrize(
    "lines",
    [
        ["if settings: settings.persistence.finalizer = 'a.io/f'"],
        ["try: pass", "except ValueError: settings.persistence.finalizer = 'a.io/f'"],
        ["settings.persistence.finalizer = 'a.io/f'", "settings.persistence.finalizer = 'b.io/f'"],
        ["settings.persistence.finalizer += 'x'"],
        ["setattr(settings.persistence, str(_), 'a.io/f')"],
        ["settings.persistence.finalizer, x = 'a.io/f'.split('x')"],
        ["x = 'a.io/f'", "x = 'b.io/f'", "settings.persistence.finalizer = x"],
        ["for x in 'ab': settings.persistence.finalizer = x"],
        ["settings.persistence = kopf.OperatorSettings().persistence"],
    ],
)
def test_what_may_be_set_in_two_ways_is_not_told(tmp_path: Path, lines: list[str]) -> None:
    """Nobody knows which one it is that objects have."""
    assert "finalizer" in reading_of(tmp_path, startup(*lines)).unknown


def test_it_may_be_set_outside_of_startup_handlers(tmp_path: Path) -> None:
    """By a function that one calls, or before an operator is run; a file that is run counts."""
    text = """
    def helper(settings):
        settings.persistence.finalizer = "a.io/f"

    if __name__ == "__main__":
        kopf.OperatorSettings().persistence.finalizer = "a.io/f"
    """
    reading = reading_of(tmp_path, text)
    assert reading.today.finalizers == ("a.io/f",)
    assert reading.is_told


@pytest.mark.parametrize("value", ["None", "NOTHING"])
def test_an_operator_without_a_finalizer_has_none(tmp_path: Path, value: str) -> None:
    """Some set it to None."""
    head = "NOTHING = None\n"
    reading = reading_of(tmp_path, head + startup(f"settings.persistence.finalizer = {value}"))
    assert reading.today.finalizers == ()
    assert reading.value("finalizer") == "none; no handler needs one"


def test_who_is_given_the_settings_may_change_them(tmp_path: Path) -> None:
    """That is a doubt, and where all is said by a person there is none."""
    text = "def change(*a, **b): ...\n" + startup("change(x=settings.persistence)")
    (doubt,) = reading_of(tmp_path, text).doubts
    assert "hands settings.persistence to a function" in doubt
    said = {"former": ("a.io/f",), "progress": "a.io", "diffbase": "b.io"}
    reading = reading_of(tmp_path, text, **said)  # type: ignore[arg-type]
    assert reading.doubts == []
    assert reading.today.finalizers == ("a.io/f",)
    assert [reading.value(name) for name in NAMES[1:]] == [
        "a.io/…",
        "b.io/last-handled-configuration",
    ]
    assert reading.said_by["finalizer"] == "--former"


# Storages


@pytest.mark.parametrize(
    ("name", "expression", "code"),
    [
        (
            "progress_storage",
            "kopf.AnnotationsProgressStorage(prefix='a.io', verbose=True)",
            'kopf.AnnotationsProgressStorage(prefix="a.io", verbose=True)',
        ),
        (
            "progress_storage",
            "kopf.MultiProgressStorage([kopf.StatusProgressStorage(name='x')])",
            'kopf.MultiProgressStorage(storages=[kopf.StatusProgressStorage(name="x")])',
        ),
        (
            "diffbase_storage",
            "kopf.AnnotationsDiffBaseStorage(prefix='a.io', ignored_fields=('spec.x',))",
            'kopf.AnnotationsDiffBaseStorage(prefix="a.io", ignored_fields=["spec.x"])',
        ),
        (
            "diffbase_storage",
            "kopf.AnnotationsDiffBaseStorage(prefix='a.io', key='last-handled-configuration')",
            'kopf.AnnotationsDiffBaseStorage(prefix="a.io")',
        ),
        ("diffbase_storage", "STORAGE", 'kopf.AnnotationsDiffBaseStorage(key="last")'),
    ],
)
def test_a_storage_of_kopfs_is_told_with_its_options(
    tmp_path: Path, name: str, expression: str, code: str
) -> None:
    """So that it can be handed over as it was."""
    head = "STORAGE = kopf.AnnotationsDiffBaseStorage(key='last')\n"
    text = head + startup(f"settings.persistence.{name} = {expression}")
    reading = reading_of(tmp_path, text)
    assert reading.is_told, reading.unknown
    found = reading.today.progress if name == "progress_storage" else reading.today.diffbase
    assert isinstance(found, Storage)
    assert found.code == code


@pytest.mark.parametrize(
    "expression",
    [
        "kopf.AnnotationsProgressStorage(**{'prefix': 'a.io'})",
        "kopf.AnnotationsProgressStorage(nothing=1)",
        "kopf.AnnotationsProgressStorage(*[])",
        "MADE",
        "'a.io'",
        "None",
    ],
)
def test_a_storage_that_is_not_told_is_not_guessed(tmp_path: Path, expression: str) -> None:
    """It is said."""
    head = "MADE = [kopf.AnnotationsProgressStorage()][0]\n"
    text = head + startup(f"settings.persistence.progress_storage = {expression}")
    assert "progress_storage" in reading_of(tmp_path, text).unknown


@pytest.mark.parametrize(
    "expression", ["Own()", "OWN", "MADE", "kopf.MultiProgressStorage([Own(), Own()])"]
)
def test_a_storage_of_ones_own_making_is_told_from_kopfs(tmp_path: Path, expression: str) -> None:
    """Only its author knows where it keeps anything."""
    head = "class Own(kopf.AnnotationsProgressStorage): ...\nOWN = Own()\nMADE = [Own()][0]\n"
    text = head + startup(f"settings.persistence.progress_storage = {expression}")
    reading = reading_of(tmp_path, text)
    assert isinstance(reading.today.progress, OwnStorage)
    assert reading.today.keeps_storages
    assert "Own" in reading.value("progress_storage")


# Lines


def spans_of(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> list[tuple[str, bool]]:
    """The lines that have to go, and whether nothing is left there."""
    source = source_of(folder, text)
    lines = source.text.splitlines()
    return [
        ("\n".join(lines[one.first - 1 : one.last]), one.leaves_nothing)
        for one in source.spans(names)
    ]


SET = "settings.persistence.finalizer = 'a.io/f'"


def test_the_lines_that_set_names_have_to_go(tmp_path: Path) -> None:
    """Those that stand together, together; others stay."""
    other = "settings.persistence.progress_storage = kopf.StatusProgressStorage()"
    text = startup("x = 1", SET, other, "x = 2")
    assert spans_of(tmp_path, text) == [(f"    {SET}\n    {other}", False)]
    assert spans_of(tmp_path, text, ("finalizer",)) == [(f"    {SET}", False)]


def test_a_startup_handler_that_does_nothing_else_goes(tmp_path: Path) -> None:
    """With its decorator; what is not called by Kopf alone is left, with `pass` in it."""
    text = startup('"Sets the names."', f"if settings: {SET}", "else: pass")
    assert spans_of(tmp_path, text) == [(text.strip(), False)]
    text = f"def helper(settings):\n    if settings:\n        {SET}\n"
    assert spans_of(tmp_path, text) == [(f"    if settings:\n        {SET}", True)]
    text = f"class C:\n    def helper(self, settings):\n        try:\n            {SET}\n"
    text += "        except ValueError:\n            print()\n"
    assert spans_of(tmp_path, text) == [(f"            {SET}", True)]


def test_other_lines_that_know_the_names_are_told(tmp_path: Path) -> None:
    """Not those that go anyway, nor what is only said of them."""
    text = f'{startup(SET)}\n"of a.io/f"\nX = ["a.io/f", "a.io/f"]\nY = "b.io/f", "x.a.io/f"\n'
    source = source_of(tmp_path, text)
    found = [one.text for one in source.mentions(["a.io/f"], source.spans(NAMES))]
    assert found == ['X = ["a.io/f", "a.io/f"]']
    versions = source_of(tmp_path, 'API = "a.io/v1beta1"\nTEAM = "a.io/team"\n')
    assert [one.text for one in versions.mentions(["a.io/"], [])] == ['TEAM = "a.io/team"']


def test_a_module_without_a_source_is_not_read() -> None:
    """A compiled one, say."""
    module = ModuleType("compiled")
    module.__file__ = sys.executable
    assert Source.of(module) is None
