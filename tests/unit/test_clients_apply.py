"""Changes of one finalizer by server-side apply: alone, and with patches where it cannot."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from kopf_finalizers import (
    ConfigurationError,
    apply_configuration,
    ensure_finalizer,
    release_finalizer,
)

from ..support.clients import OURS, THEIRS, both, change, fail
from ..support.servers import Body
from ..support.shared import SharedObject

pytestmark = pytest.mark.usefixtures("pauses")


class TestApplyWithPatches:
    """What a server-side apply cannot do."""

    def test_entry_of_another_patch(self) -> None:
        """A finalizer that came by another kind of patch is released by a patch."""
        thing = SharedObject([OURS, THEIRS])
        assert change(release_finalizer, thing, "apply or patch") == "released"
        assert thing.finalizers == [THEIRS]
        assert thing.sent == ["apply", "read", "patch"]

    @both
    def test_no_way_to_patch(self, call: Callable[..., Any]) -> None:
        """Without a way to patch that is an error, which says what to give."""
        thing = SharedObject([OURS, THEIRS])
        with pytest.raises(ConfigurationError, match=r"another kind of patch.*read= and patch="):
            call(release_finalizer, thing, "apply")
        assert thing.finalizers == [OURS, THEIRS]

    @both
    def test_apply_that_did_not_take(self, call: Callable[..., Any]) -> None:
        """An apply that has added nothing, a dry run say, is no release: the error says so."""
        thing = SharedObject([THEIRS])
        body = thing.body
        options: dict[str, Any] = {"body": body, "apply": lambda *_: body}
        with pytest.raises(ConfigurationError, match=r"is not on the object.*dry run") as caught:
            call(ensure_finalizer, thing, "", **options)
        assert "releas" not in str(caught.value)
        assert thing.finalizers == [THEIRS]

    def test_applied_and_patched(self) -> None:
        """A finalizer that came both ways is released, too."""
        thing = SharedObject([OURS])
        change(ensure_finalizer, thing, "apply")
        assert change(release_finalizer, thing, "apply or patch") == "released"
        assert thing.finalizers == []

    def test_duplicates_of_others(self) -> None:
        """A list with others' duplicates, which cannot be applied to, is patched."""
        thing = SharedObject([THEIRS, THEIRS])
        assert change(ensure_finalizer, thing, "apply or patch") == "added"
        assert change(release_finalizer, thing, "apply or patch") == "released"
        assert thing.finalizers == [THEIRS, THEIRS]

    def test_apply_not_supported(self) -> None:
        """An API server without server-side apply gets a patch."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 415, "unsupported media type")]
        assert change(ensure_finalizer, thing, "apply or patch") == "added"
        assert thing.sent == ["apply", "read", "patch"]

    @pytest.mark.parametrize("status", [409, 422])
    def test_no_words(self, status: int) -> None:
        """Where a client keeps no words, it is found out by reading."""

        class WordlessError(Exception):
            def __init__(self) -> None:
                self.status = status

        def apply(*_: object) -> None:
            raise WordlessError

        thing = SharedObject([THEIRS])
        body = thing.body
        thing.delete()
        options: dict[str, Any] = {"apply": apply, "body": body}
        assert change(ensure_finalizer, thing, **options) == "being deleted"
        thing.write()
        assert change(ensure_finalizer, thing, **options) == "gone"

    def test_reference_tells_nothing_of_the_version(self) -> None:
        """With a reference it is not known what was there before: it is added and released."""
        thing = SharedObject()
        reference = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "a"}
        reference["uid"] = (thing.body or {})["metadata"]["uid"]
        for _ in range(2):
            assert change(ensure_finalizer, thing, "apply", body=reference) == "added"
        for _ in range(2):
            assert change(release_finalizer, thing, "apply", body=reference) == "released"

    def test_reference_with_a_version(self) -> None:
        """A reference may have a version, and still tells nothing of the finalizers."""
        thing = SharedObject()
        change(ensure_finalizer, thing, "apply")
        thing.delete()
        body = thing.body or {}
        reference = {"apiVersion": "example.com/v1", "kind": "Thing", **body["metadata"]}
        assert change(release_finalizer, thing, "apply", body=reference) == "released"

    def test_old_body(self) -> None:
        """That a body from before had the finalizer does not say that it was there."""
        thing = SharedObject()
        change(ensure_finalizer, thing, "apply")
        body = thing.body
        thing.write(THEIRS)
        assert change(ensure_finalizer, thing, "apply", body=body) == "added"


class TestApplyConfiguration:
    """The manifest and the field manager."""

    BODY: Body = {  # noqa: RUF012 - never changed
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "b", "uid": "1-2", "finalizers": [THEIRS]},
        "spec": {"size": 1},
    }

    def test_add(self) -> None:
        """It has what says which object it is, and one finalizer: nothing else is applied."""
        manifest, manager = apply_configuration(self.BODY, add=OURS)
        assert manifest == {
            "apiVersion": "example.com/v1",
            "kind": "Thing",
            "metadata": {"name": "a", "namespace": "b", "uid": "1-2", "finalizers": [OURS]},
        }
        assert manager == f"finalizer:{OURS}"

    def test_remove(self) -> None:
        """To remove is to apply nothing in the same name."""
        manifest, manager = apply_configuration(self.BODY, remove=OURS)
        assert manifest["metadata"] == {"name": "a", "namespace": "b", "uid": "1-2"}
        assert manager == apply_configuration(self.BODY, add=OURS)[1]

    def test_cluster_scoped(self) -> None:
        """An object without a namespace gets none."""
        reference = {"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "1-2"}
        manifest, _ = apply_configuration(reference, remove=OURS)
        assert manifest["metadata"] == {"name": "a", "uid": "1-2"}

    def test_longest_names(self) -> None:
        """Names that differ anywhere have different managers, all of at most 128 characters."""
        domains = ["a.com", f"{'a' * 60}.{'b' * 40}.com", f"{'a' * 60}.{'b' * 40}.{'c' * 63}.com"]
        names = [
            f"{domain}/{'x' * length}{end}"
            for domain in domains
            for length in (1, 11, 12, 13, 62)
            for end in "yz"
        ]
        managers = {apply_configuration(self.BODY, add=name)[1] for name in names}
        assert len(managers) == len(names)
        assert max(map(len, managers)) == 128

    def test_longest_readable_name(self) -> None:
        """As long as it fits, the manager is the whole finalizer."""
        name = f"mycompany.com.{'a' * 63}.com/{'b' * 36}"
        assert apply_configuration(self.BODY, add=name)[1] == f"finalizer:{name}"
        assert apply_configuration(self.BODY, add=f"{name}b")[1] != f"finalizer:{name}b"

    def test_hashed_name(self) -> None:
        """What is too long keeps its beginning, and a sign that no finalizer can have."""
        name = f"mycompany.com.{'a' * 63}.{'b' * 63}.com/db-operator"
        digest = hashlib.sha256(name.encode()).hexdigest()
        manager = apply_configuration(self.BODY, add=name)[1]
        assert manager == f"finalizer:mycompany.com.{'a' * 39}~{digest}"

    @pytest.mark.parametrize("key", ["apiVersion", "kind", "name", "uid"])
    def test_incomplete_reference(self, key: str) -> None:
        """Without any of these, it could be another object; without uid it could be created."""
        metadata = {k: v for k, v in self.BODY["metadata"].items() if k != key}
        body = {k: v for k, v in self.BODY.items() if k != key} | {"metadata": metadata}
        with pytest.raises(ConfigurationError, match=f"no {key}: .*build_object_reference"):
            apply_configuration(body, add=OURS)

    @pytest.mark.parametrize("names", [{}, {"add": OURS, "remove": THEIRS}])
    def test_one_change(self, names: dict[str, str]) -> None:
        """Each manager owns one finalizer, so there is one change for each."""
        with pytest.raises(ConfigurationError, match="one apply changes one finalizer"):
            apply_configuration(self.BODY, **names)

    def test_bad_name(self) -> None:
        """A name that the server would not take is refused."""
        with pytest.raises(ConfigurationError, match="does not take"):
            apply_configuration(self.BODY, add="my company.com/f")
