"""Which names of finalizers, labels and annotations an API server takes."""

import re

import pytest

from ..support.answers import NAME_RULE, PREFIX_RULE, A, causes, finalizers, make, refused, stored
from ..support.servers import Api, Body, Resource


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a b", [f"name part {NAME_RULE}"]),
        ("a.com/f g", [f"name part {NAME_RULE}"]),
        ("a.com/-f", [f"name part {NAME_RULE}"]),
        ("a.com/f\n", [f"name part {NAME_RULE}"]),
        ("a.com/fé", [f"name part {NAME_RULE}"]),
        ("a.com/", ["name part must be non-empty", f"name part {NAME_RULE}"]),
        ("", ["name part must be non-empty", f"name part {NAME_RULE}"]),
        ("a.com/" + "f" * 64, ["name part must be no more than 63 characters"]),
        ("/f", ["prefix part must be non-empty"]),
        ("MyCompany.com/f", [PREFIX_RULE]),
        ("my_company.com/f", [PREFIX_RULE]),
        ("a" * 254 + "/f", ["prefix part must be no more than 253 characters"]),
        ("a.com/f/g", [f"a qualified name {NAME_RULE}"]),
    ],
)
def test_a_finalizer_is_a_qualified_name(
    api: Api, resource: Resource, name: str, words: list[str]
) -> None:
    """A finalizer that is no qualified name is refused, with every rule that it breaks."""
    before = make(api, resource)
    shown = name.replace("\n", "\\n")
    for answer in (
        api.merge_patch(resource.path_to("a"), {"metadata": {"finalizers": [A, name]}}),
        api.create(resource.path, resource.body("b", finalizers=[A, name])),
    ):
        body = refused(answer, 422, *words, f'metadata.finalizers: Invalid value: "{shown}": ')
        assert causes(body) == {("metadata.finalizers", "FieldValueInvalid")}
        assert len({c["message"] for c in body["details"]["causes"]}) == len(words)
    assert stored(api, resource) == before


@pytest.mark.parametrize(
    "name", ["my-finalizer", "operator/finalizer", "a.com/F_i.n", "a" * 253 + "/" + "f" * 63]
)
def test_a_finalizer_that_is_a_qualified_name(api: Api, resource: Resource, name: str) -> None:
    """A finalizer needs no domain, and it may be as long as the rule allows."""
    assert finalizers(make(api, resource, finalizers=[name])) == [name]


def test_finalizers_of_the_garbage_collector(api: Api, resource: Resource) -> None:
    """An object cannot have both finalizers of the garbage collector."""
    both = ["orphan", "foregroundDeletion"]
    answer = api.create(resource.path, resource.body("a", finalizers=both))
    refused(answer, 422, "finalizer orphan and foregroundDeletion cannot be both set")


@pytest.mark.parametrize(
    ("metadata", "field", "words"),
    [
        ({"annotations": {"a b/c d": "1"}}, "annotations", [PREFIX_RULE, f"part {NAME_RULE}"]),
        ({"annotations": {"a.com/" + "a" * 64: ""}}, "annotations", ["no more than 63 characters"]),
        ({"labels": {"A.com/a": "1"}}, "labels", [PREFIX_RULE]),
        ({"labels": {"a": "a b"}}, "labels", ["a valid label must be an empty string or consist"]),
        ({"labels": {"a": "a" * 64}}, "labels", ["must be no more than 63 characters"]),
    ],
)
def test_keys_of_labels_and_annotations_are_qualified_names(
    api: Api, resource: Resource, metadata: Body, field: str, words: list[str]
) -> None:
    """The keys of labels and annotations follow the same rule as finalizers, label values too."""
    make(api, resource)
    answer = api.merge_patch(resource.path_to("a"), {"metadata": metadata})
    body = refused(answer, 422, f"metadata.{field}: Invalid value: ", *words, reason="Invalid")
    assert causes(body) == {(f"metadata.{field}", "FieldValueInvalid")}


def test_labels_and_annotations_that_are_good(api: Api, resource: Resource) -> None:
    """Label values may be empty, and prefixes of annotations may have upper case."""
    make(api, resource, labels={"a.com/A": ""}, annotations={"A.com/a": "any thing"})


def test_annotations_have_a_size(api: Api, resource: Resource) -> None:
    """All annotations of an object together may have 256 KiB."""
    make(api, resource)
    for size, status in ((256 * 1024 - 1, 200), (256 * 1024, 422)):
        patch = {"metadata": {"annotations": {"a": "x" * size}}}
        answer = api.merge_patch(resource.path_to("a"), patch)
        assert answer.status_code == status
    words = "metadata.annotations: Too long: must have at most 262144 bytes"
    assert causes(refused(answer, 422, words)) == {("metadata.annotations", "FieldValueTooLong")}


def test_all_that_is_wrong_is_told(api: Api, resource: Resource) -> None:
    """One refusal names all that is wrong, in brackets, and each as a cause of its own."""
    make(api, resource)
    metadata = {"uid": "wrong", "finalizers": ["a b"], "labels": {"x y": "z"}}
    answer = api.merge_patch(resource.path_to("a"), {"metadata": metadata})
    body = refused(answer, 422, 'Thing.example.com "a" is invalid: [metadata.labels: Invalid')
    fields = ["metadata.labels", "metadata.finalizers", "metadata.uid"]
    assert causes(body) == {(field, "FieldValueInvalid") for field in fields}
    assert list(dict.fromkeys(re.findall(r"metadata\.\w+", body["message"]))) == fields
    details = {key: body["details"][key] for key in ("name", "group", "kind")}
    assert details == {"name": "a", "group": "example.com", "kind": "Thing"}
