"""What is said to `configure` in each release, by the names that an operator has."""

import kopf
import pytest

from kopf_finalizers import OperatorIdentity
from kopf_finalizers._adoption.releases import Today, releases
from kopf_finalizers._adoption.values import OwnStorage, Storage

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="reports")
KOPFS = "kopf.zalando.org/KopfFinalizerMarker"
START = 'finalizers = kopf_finalizers.configure(domain="mycompany.com", operator="reports"'


def progress(**options: object) -> Storage:
    return Storage(kopf.AnnotationsProgressStorage, options)


def diffbase(**options: object) -> Storage:
    return Storage(kopf.AnnotationsDiffBaseStorage, options)


OWN = ("a.io/f",)
A = progress(prefix="a.io"), diffbase(prefix="a.io")
NEW = progress(prefix="reports.mycompany.com"), diffbase(prefix="reports.mycompany.com")


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (Today(), {"former": [KOPFS]}),
        (Today(OWN), {"former": ["a.io/f"], "former_storage_prefix": "kopf.zalando.org"}),
        (Today(OWN, *A), {"former": ["a.io/f"], "former_storage_prefix": "a.io"}),
        (
            Today((*OWN, "b.io/f"), *A),
            {"former": [*OWN, "b.io/f"], "former_storage_prefix": "a.io"},
        ),
        (Today((KOPFS,), *NEW), {"former": [KOPFS], "former_storage_prefix": None}),
        (
            Today(OWN, progress=A[0]),
            {
                "former": ["a.io/f"],
                "former_progress_storage": "a.io",
                "former_diffbase_storage": "kopf.zalando.org",
            },
        ),
        (
            Today(OWN, A[0], diffbase(prefix="a.io", key="last")),
            {
                "former": ["a.io/f"],
                "former_progress_storage": "a.io",
                "former_diffbase_storage": diffbase(prefix="a.io", key="last"),
            },
        ),
        (
            Today(OWN, Storage(kopf.SmartProgressStorage, {"name": "x"}), A[1]),
            {
                "former": ["a.io/f"],
                "former_progress_storage": Storage(kopf.SmartProgressStorage, {"name": "x"}),
                "former_diffbase_storage": "a.io",
            },
        ),
        (Today(("mycompany.com/reports",), *A), {"former_storage_prefix": "a.io"}),
        (Today(()), {"former_storage_prefix": "kopf.zalando.org"}),
        (Today(OWN, keeps_records=False), {"former": ["a.io/f"], "former_storage_prefix": None}),
        (Today((KOPFS,), keeps_records=False), {"former": [KOPFS]}),
    ],
)
def test_three_releases_move_it(today: Today, said: dict[str, object]) -> None:
    """The first recognises, the second switches, and the third says nothing of what was."""
    one, two, three = releases(today, IDENTITY)
    names = {"domain": "mycompany.com", "operator": "reports"}
    assert one.arguments == {**names, **said, "rollout": "recognise"}
    assert two.arguments == {**names, **said}
    assert three.arguments == names
    for release in (one, two, three):
        release.tried()


def test_ignored_fields_go_on_being_ignored() -> None:
    """In all releases, the last one too; also those of a storage within another one."""
    inside = [diffbase(prefix="a.io", ignored_fields=["spec.x"])]
    today = Today(OWN, A[0], Storage(kopf.MultiDiffBaseStorage, {"storages": inside}))
    found = releases(today, IDENTITY)
    expected = diffbase(prefix="reports.mycompany.com", ignored_fields=["spec.x"])
    assert [one.arguments["diffbase_storage"] for one in found] == [expected] * 3
    assert found[-1].code.startswith("import kopf\nimport kopf_finalizers\n\nfinalizers = ")


def test_what_is_printed_is_as_wide_as_it_may_be() -> None:
    """A storage with options of its own takes the lines that it needs."""
    last = diffbase(prefix="operator.cloud.example.com", key="last", v1=False)
    one, *_ = releases(Today(OWN, A[0], last), IDENTITY)
    assert one.code.splitlines()[3:] == [
        "finalizers = kopf_finalizers.configure(",
        '    domain="mycompany.com",',
        '    operator="reports",',
        '    former=["a.io/f"],',
        '    former_progress_storage="a.io",',
        "    former_diffbase_storage=kopf.AnnotationsDiffBaseStorage(",
        '        prefix="operator.cloud.example.com",',
        '        key="last",',
        "        v1=False,",
        "    ),",
        '    rollout="recognise",',
        ")",
    ]


def test_an_operator_that_needs_no_finalizer_has_none() -> None:
    """What its objects carry of its own goes; Kopf's default name may be anybody's."""
    today = Today(guards=False)
    one, _, three = releases(today, IDENTITY, carried=[KOPFS])
    assert one.arguments["finalizer"] is None
    assert "former" not in one.arguments
    assert three.code.endswith(f"{START}, finalizer=None)") or "finalizer=None" in three.code
    one, two, three = releases(Today(OWN, *A, guards=False), IDENTITY, carried=OWN)
    assert one.arguments["former"] == ["a.io/f"]
    assert "finalizer" not in two.arguments
    assert three.arguments["finalizer"] is None
    for release in (one, two, three):
        release.tried()


def test_an_operator_with_storages_of_its_own_making_keeps_them() -> None:
    """Only its finalizer moves."""
    one, two, three = releases(Today(OWN, OwnStorage("Own()")), IDENTITY)
    assert {release.arguments["storages"] for release in (one, two, three)} == {False}
    assert one.arguments["former"] == ["a.io/f"]
    assert two.tried().storages is False


def test_an_operator_that_keeps_its_finalizer_says_it_whole() -> None:
    """And where nothing moves there is one release."""
    today = Today(("mycompany.com/reports",), *A)
    one, *_ = releases(today, IDENTITY, keeps_finalizer=True)
    assert one.arguments["finalizer"] == "mycompany.com/reports"
    (only,) = releases(Today(("mycompany.com/reports",), *NEW), IDENTITY)
    assert (only.name, only.code.splitlines()[-1]) == ("", f"{START})")


def test_names_that_another_operator_has_are_said_to_be_shared() -> None:
    """In the releases that have former names."""
    one, two, three = releases(Today(), IDENTITY, is_shared=True)
    assert one.arguments["former_is_shared"] is two.arguments["former_is_shared"] is True
    assert "former_is_shared" not in three.arguments
