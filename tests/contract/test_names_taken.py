"""Names that the library takes or refuses, and what API servers say of them."""

import kopf
import pytest

from kopf_finalizers import ConfigurationError, OperatorIdentity
from kopf_finalizers._handler_ids import can_be_kept
from kopf_finalizers._names import check_finalizer

from ..support.names import FINALIZER_REFUSALS
from ..support.servers import Api, Resource

GOOD = ["a.example.com/f", "mycompany.com/db-operator.backups", "mycompany.com/My_Finalizer.v2"]
GOOD += ["my-finalizer", "mtls-operator/finalizer", "perf.fhir/finalizer", "d--d.io/0"]
GOOD += ["d" * 253 + "/" + "n" * 63]
BAD = [name for name in FINALIZER_REFUSALS if name.isprintable()]


@pytest.mark.parametrize("name", [*GOOD, "mycompany.com/db-operator\n", *BAD])
def test_names_are_taken_and_refused_as_an_api_server_does(
    api: Api, resource: Resource, name: str
) -> None:
    """What the library takes the API server stores; what the server refuses is refused first."""
    answer = api.create(resource.path, resource.body("t", finalizers=[name]))
    try:
        check_finalizer(name)
        assert answer.status_code == 201
        assert answer.json()["metadata"]["finalizers"] == [name]
    except ConfigurationError:
        assert answer.status_code == 422
        assert "metadata.finalizers" in answer.json()["message"]


@pytest.mark.parametrize(
    ("domain", "operator", "purpose"),
    [
        ("mycompany.com", "db-operator", "backups"),
        ("a.b", "0", "0"),
        ("xn--bcher-kva.example", "my--op", "a-_-b"),
        ("d" * 121 + ".com", "o" * 61, "p"),
        ("d" * 183 + ".com", "o", "p" * 61),
    ],
)
def test_every_name_of_an_identity_is_stored(
    api: Api, resource: Resource, domain: str, operator: str, purpose: str
) -> None:
    """An API server stores the finalizers of an identity, and annotations under its prefix."""
    identity = OperatorIdentity(domain=domain, operator=operator)
    finalizers = [identity.finalizer, identity.finalizer_for(purpose)]
    annotations = {f"{identity.storage_prefix}/{'k' * 63}": "v"}
    body = resource.body("t", finalizers=finalizers, annotations=annotations)
    answer = api.create(resource.path, body)
    assert answer.status_code == 201
    assert answer.json()["metadata"]["finalizers"] == finalizers
    assert answer.json()["metadata"]["annotations"] == annotations


@pytest.mark.parametrize(
    "handler_id",
    [
        "drop_backups",
        "Database.drop",
        "make.<locals>.drop_bucket",
        "both/dns",
        "x" * 300,
        "_" * 70,
        "_drop_backups",
        "drop_backups_",
        "drop backups",
        "été",
        "lambda:/operators/db.py:12",
        "<lambda>",
    ],
)
def test_progress_of_a_handler_is_stored_if_its_id_will_do(
    api: Api, resource: Resource, handler_id: str
) -> None:
    """Kopf makes an annotation of an id, and an API server takes it or not."""
    body = api.create(resource.path, resource.body("t")).json()
    patch = kopf.Patch()
    kopf.AnnotationsProgressStorage(prefix="db-operator.mycompany.com", v1=False).store(
        key=kopf.HandlerId(handler_id),
        record=kopf.ProgressRecord(retries=1),
        body=kopf.Body(body),
        patch=patch,
    )
    answer = api.merge_patch(resource.path_to("t"), dict(patch))
    assert answer.status_code == (200 if can_be_kept(handler_id) else 422), answer.text
