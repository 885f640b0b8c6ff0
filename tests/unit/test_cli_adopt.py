"""`kopf-finalizers adopt`, for objects that kubectl has printed."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ..support.commands import run

KOPFS = "kopf.zalando.org/KopfFinalizerMarker"
LAST = "last-handled-configuration"
IDENTITY = ("--domain", "mycompany.com", "--operator", "reports")
HANDLERS = """
import kopf

@kopf.on.create("example.com", "v1", "things")
def create_fn(**_): ...

@kopf.on.delete("example.com", "v1", "things")
def delete_fn(**_): ...
"""
SETS = """
@kopf.on.startup()
def conf(settings, **_):
    settings.persistence.finalizer = {}
"""
STATE = '{"spec":{}}\n'
PROGRESS = json.dumps({"started": "2026-01-01T00:00:00.000000"})


class Case:
    """An operator, and its objects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "reports_operator.py"
        self.objects = folder / "objects.json"
        self.has(HANDLERS)
        self.carries()

    def has(self, text: str) -> None:
        self.file.write_text(text)

    def carries(self, *finalizers: str, status: Any = None, **annotations: str) -> None:
        """One object, with annotations whose keys have `__` for the slash."""
        keys = {key.replace("__", "/"): value for key, value in annotations.items()}
        metadata = {"name": "a", "finalizers": list(finalizers), "annotations": keys}
        body = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata, "spec": {}}
        self.objects.write_text(json.dumps({"items": [body | {"status": status or {}}]}))

    def run(self, *options: str) -> Result:
        return run("adopt", str(self.file), "-f", str(self.objects), *options)

    def told(self, *options: str) -> dict[str, Any]:
        result = self.run(*options, "-o", "json")
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer | {"code": result.exit_code}

    def whose(self, *options: str) -> dict[str, str]:
        return {row["name"]: row["whose"] for row in self.told(*options)["carried"]}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_all_that_is_told_is_printed_for_people(case: Case) -> None:
    """Names, what objects carry, what is to be known, the lines that go, and each release."""
    case.has(HANDLERS + SETS.format('"a.io/f"') + '\nDOCUMENTED = "a.io/f"\n')
    case.carries("a.io/f", **{f"kopf.zalando.org__{LAST}": STATE})
    result = case.run(*IDENTITY)
    assert result.exit_code == 0
    parts = ["Its names today:", "They carry:", "To be known:", "Lines that have to go:"]
    parts += ["Other lines that know these names", "Release one:", "Release two:", "Release three:"]
    places = [result.stdout.index(one) for one in parts]
    assert places == sorted(places)
    assert 'reports_operator.py:14: DOCUMENTED = "a.io/f"' in result.stdout
    assert "To be said first" not in result.stdout


def test_an_operator_whose_objects_carry_nothing_is_told_so(case: Case) -> None:
    """And where nothing moves, there is one thing to say."""
    case.has(
        HANDLERS.replace("create", "resume").replace("delete_fn", "d") + SETS.format('"a.io/f"')
    )
    sets = "    settings.persistence.{}_storage = kopf.Annotations{}Storage(prefix='f.a.io')\n"
    settings = sets.format("progress", "Progress") + sets.format("diffbase", "DiffBase")
    case.file.write_text(case.file.read_text() + settings)
    case.objects.write_text('{"items": null}')
    result = case.run()
    assert "They carry nothing of a Kopf operator's." in result.stdout
    assert "To be said:\n\nimport kopf_finalizers\n\nfinalizers = " in result.stdout
    assert "It keeps its finalizer" in result.stdout


def test_who_it_is_to_be_is_asked_where_its_name_will_not_do(case: Case) -> None:
    """Kopf's default name is nobody's: nothing is printed that could not be said."""
    case.carries(KOPFS)
    answer = case.told()
    assert (answer["code"], answer["releases"]) == (1, [])
    (asked,) = answer["open"]
    assert asked.startswith("Who it is to be: give --domain")
    assert "To be said first:\n- Who it is to be" in case.run().stdout
    assert "Lines that have to go" not in case.run(*IDENTITY).stdout
    assert "To be known" not in case.run(*IDENTITY, "--shared").stdout


@pytest.mark.parametrize("finalizer", ["mtls-operator/finalizer", "kubernetes.dask.org"])
def test_a_finalizer_that_is_no_identity_is_kept_where_that_is_said(
    case: Case, finalizer: str
) -> None:
    """Otherwise it moves, as any other name."""
    case.has(HANDLERS + SETS.format(f'"{finalizer}"'))
    case.carries(finalizer)
    (asked,) = case.told()["open"]
    assert asked.endswith(f"With --keep beside them it goes on with {finalizer}.")
    assert f'former=["{finalizer}"]' in case.told(*IDENTITY)["releases"][0]
    answer = case.told(*IDENTITY, "--keep")
    assert (answer["code"], answer["open"]) == (0, [])
    assert all(f'keep_finalizer="{finalizer}"' in one for one in answer["releases"])
    assert not any("former=" in one for one in answer["releases"])
    assert case.whose(*IDENTITY, "--keep") == {finalizer: "this operator's"}


def test_handlers_that_come_with_other_modules_are_missed(case: Case) -> None:
    """Nobody imports what a startup handler would, so it is asked for them."""
    case.has("import kopf" + SETS.format('"a.io/f"'))
    case.carries("a.io/f")
    answer = case.told(*IDENTITY)
    assert answer["code"] == 1
    assert answer["open"][-1].startswith("Its files have no handlers.")


def test_what_only_running_it_would_tell_is_said_by_a_person(case: Case) -> None:
    """Then the releases are printed."""
    computed = "    settings.persistence.diffbase_storage = print()\n"
    case.has("import os\n" + HANDLERS + SETS.format('os.environ.get("FINALIZER")') + computed)
    case.carries("a.io/f", **{f"a.io__{LAST}": STATE})
    answer = case.told(*IDENTITY)
    assert (answer["code"], answer["releases"]) == (1, [])
    assert answer["names"]["finalizer"]["value"] is None
    assert case.whose(*IDENTITY) == {
        "a.io/f": "not told; whom to ask: a.io",
        f"a.io/{LAST}": "last states: not told; some Kopf operator's",
    }
    assert len(case.told()["open"]) == 3
    said = ("--former", "a.io/f", "--former-diffbase-storage", "a.io")
    answer = case.told(*IDENTITY, *said)
    assert (answer["code"], len(answer["releases"])) == (0, 3)


def test_whose_it_is_is_said_as_far_as_that_can_be_told(case: Case) -> None:
    """By the operator's files, by the ids of its handlers, by what Kubernetes and Kopf call it."""
    case.has(HANDLERS + SETS.format('"a.io/f"'))
    case.carries(
        *("a.io/f", "nodomain", "foregroundDeletion", KOPFS, "mycompany.com/reports.x"),
        **{
            f"kopf.zalando.org__{LAST}": STATE,
            "kopf.zalando.org__create_fn": PROGRESS,
            "kopf.zalando.org__create_fn.child": PROGRESS,
            "kopf.zalando.org__stranger": PROGRESS,
            "b.io__create_fn": PROGRESS,
            f"b.io__{LAST}": STATE,
            f"reports.mycompany.com__{LAST}-ofDRN": STATE,
            "c.io__kopf-managed": "yes",
            "d.io__kopf-managed": "yes",
            "d.io__other": STATE,
        },
    )
    default = ", and any other Kopf operator's with Kopf's default names"
    no_handler = ", which is no handler of this operator"
    found = case.told(*IDENTITY)["carried"]
    assert sorted((row["name"], row["whose"]) for row in found) == sorted([
        ("a.io/f", "this operator's"),
        ("nodomain", "not told; whom to ask: nobody, by its name"),
        ("foregroundDeletion", "the garbage collector, which deletes the dependents first"),
        (
            KOPFS,
            "some Kopf operator that has not chosen a name, or an earlier release of this one",
        ),
        ("mycompany.com/reports.x", "this operator's, by its new name"),
        (f"kopf.zalando.org/{LAST}", f"last states: this operator's{default}"),
        ("kopf.zalando.org/…", f"progress of its handlers: this operator's{default}"),
        ("kopf.zalando.org/…", f"not told: progress of stranger{no_handler}"),
        ("b.io/…", "progress of its handlers: not told; some Kopf operator's"),
        (f"b.io/{LAST}", "last states: not told; some Kopf operator's"),
        (
            f"reports.mycompany.com/{LAST}",
            "last states: this operator's, in its new place",
        ),
        ("c.io/kopf-managed", "Kopf's mark: not told; some Kopf operator's"),
        ("d.io/other", "last states: not told; some Kopf operator's"),
    ])  # fmt: skip


def test_handlers_of_others_are_named_unless_it_is_said_that_there_are_some(case: Case) -> None:
    """Another operator has written where this one does, or an older release of it."""
    case.carries(KOPFS, **{"kopf.zalando.org__stranger": PROGRESS})
    (hint,) = case.told(*IDENTITY)["hints"]
    assert "there is some of stranger, which are no handlers of this operator" in hint
    answer = case.told(*IDENTITY, "--shared")
    assert answer["hints"] == []
    assert "former_is_shared=True" in answer["releases"][0]
    case.carries(KOPFS)
    (hint,) = case.told(*IDENTITY)["hints"]
    assert hint.startswith("Kopf's default names tell nothing about whose they are.")
    case.has("import kopf\n@kopf.on.event('example.com', 'v1', 'things')\ndef seen(**_): ...\n")
    assert case.told(*IDENTITY)["hints"] == []


def test_objects_that_carry_something_else_contradict_its_files(case: Case) -> None:
    """Nobody knows then which names they have had; what the new ones are is no contradiction."""
    case.has(HANDLERS + SETS.format('"a.io/f"'))
    case.carries("b.io/f", **{f"b.io__{LAST}": STATE})
    answer = case.told(*IDENTITY)
    assert (answer["code"], len(answer["releases"])) == (1, 3)
    finalizer, last_states = answer["open"]
    assert finalizer.startswith("None of the 1 objects carries a.io/f, which its files say")
    assert f"They are in b.io/{LAST}" in last_states
    case.carries("mycompany.com/reports", **{f"reports.mycompany.com__{LAST}": STATE})
    assert case.told(*IDENTITY)["open"] == []


def test_records_in_a_status_are_found_in_whole_objects(case: Case) -> None:
    """That is where an operator keeps them that has such a storage."""
    status = "    settings.persistence.progress_storage = kopf.StatusProgressStorage(name='x')\n"
    case.has(HANDLERS + SETS.format('"a.io/f"') + status)
    case.carries("a.io/f", status={"x": {"progress": {"create_fn": {}}}})
    assert case.whose(*IDENTITY)["status.x.progress"] == "this operator's"
    case.carries("a.io/f", status={"x": "odd"})
    assert "status.x.progress" not in case.whose(*IDENTITY)


def test_storages_of_its_own_making_stay(case: Case) -> None:
    """Only the line of the finalizer has to go."""
    own = "    settings.persistence.progress_storage = Own()\n"
    head = "import kopf\nclass Own(kopf.StatusProgressStorage): ...\n"
    case.has(head + HANDLERS + SETS.format('"a.io/f"') + own)
    answer = case.told(*IDENTITY)
    assert "storages=False" in answer["releases"][2]
    assert [one["last"] - one["first"] for one in answer["remove"]] == [0]
    assert any(one.startswith("It has a storage of its own making") for one in answer["hints"])


def test_what_configure_would_refuse_is_not_printed(case: Case) -> None:
    """It says why."""
    case.has(HANDLERS + SETS.format('"no name/"'))
    answer = case.told(*IDENTITY)
    assert (answer["code"], answer["releases"]) == (1, [])
    assert any(one.startswith("configure() refuses what would be said:") for one in answer["open"])


def test_an_operator_with_an_identity_is_shown_where_to_look(case: Case) -> None:
    """There is nothing to adopt."""
    case.has("import kopf_finalizers\nkopf_finalizers.configure('mycompany.com', 'reports')\n")
    result = case.run(*IDENTITY)
    assert result.exit_code == 2
    assert "reports_operator.py:2 calls kopf_finalizers.configure() already" in result.stderr
    assert "kopf-finalizers holders --operator" in result.stderr


def test_the_modules_of_an_operator_are_read(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it imports, too, and all of the package that is named; not what is installed."""
    package = tmp_path / "reports_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "config.py").write_text("import kopf" + SETS.format('"a.io/f"'))
    (package / "__main__.py").write_text(HANDLERS + "from . import config\nimport colorsys\n")
    monkeypatch.syspath_prepend(tmp_path)
    where = ("-f", str(case.objects), "-o", "json")
    answer = json.loads(run("adopt", "-m", "reports_package.__main__", *where, *IDENTITY).stdout)
    assert answer["names"]["finalizer"]["value"] == "a.io/f"
    (tmp_path / "reports_config.py").write_text("import kopf" + SETS.format('"b.io/f"'))
    case.has(HANDLERS + "import reports_config, wave\n")
    assert case.told(*IDENTITY)["names"]["finalizer"]["value"] == "b.io/f"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Name the operator's files"),
        (("FILE", "--domain", "mycompany.com"), "--operator is missing"),
        (("FILE", "--operator", "reports"), "--domain is missing"),
        (("FILE", "--domain", "mycompany.com", "--operator", "No"), "No"),
        (("FILE", *IDENTITY, "-f", "FILE"), "is no JSON"),
        (("FILE", "-n", "a", "-A"), "-n and -A contradict each other"),
    ],
)
def test_what_cannot_work_is_refused(case: Case, options: tuple[str, ...], words: str) -> None:
    """With exit code 2, and what to do."""
    result = run("adopt", *(str(case.file) if one == "FILE" else one for one in options))
    assert result.exit_code == 2
    assert words in result.stderr
