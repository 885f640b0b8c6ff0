"""Operators as processes, run as users run them, and ended as clusters end them."""

from pathlib import Path

from ..support.histories import turnover
from ..support.operators import OperatorProcess
from ..support.servers import Api, Resource, Server, wait_until

MAIN = "mycompany.com/db-operator"


def test_an_operator_killed_between_two_cleanups_goes_on_where_it_was(
    server: Server, api: Api, resource: Resource, tmp_path: Path
) -> None:
    """After SIGKILL the finished cleanup stays finished, and the other still holds the object."""
    operator = OperatorProcess(
        "two_cleanups.py", server, tmp_path / "log", resource=resource, EFFECTS=str(tmp_path)
    )

    def calls() -> list[str]:
        noted = tmp_path / "calls"
        return noted.read_text().split() if noted.exists() else []

    with api.watching(resource.path) as seen, operator:
        api.create(resource.path, resource.body("one")).raise_for_status()
        wait_until(lambda: "create" in calls())
        api.delete(resource.path_to("one")).raise_for_status()
        wait_until(lambda: f"{MAIN}.first" not in _finalizers(api, resource))
        operator.kill()
        assert _finalizers(api, resource) == [f"{MAIN}.second", MAIN]
        assert not (tmp_path / "first").exists()
        assert (tmp_path / "second").exists()
        (tmp_path / "may-go").touch()
        operator.start()
        seen.wait_for("DELETED", "one")
    assert calls().count("create") == calls().count("first") == 1
    assert not (tmp_path / "second").exists()
    assert set(turnover(seen, "one").values()) == {(1, 1)}
    assert "Traceback" not in operator.output()


def test_an_object_deleted_while_the_process_is_gone_gets_its_cleanups(
    server: Server, api: Api, resource: Resource, tmp_path: Path
) -> None:
    """Killed, the operator leaves its finalizers behind, and they hold the object meanwhile."""
    operator = OperatorProcess(
        "two_cleanups.py", server, tmp_path / "log", resource=resource, EFFECTS=str(tmp_path)
    )
    (tmp_path / "may-go").touch()
    with api.watching(resource.path) as seen, operator:
        api.create(resource.path, resource.body("one")).raise_for_status()
        wait_until(lambda: (tmp_path / "second").exists())
        operator.kill()
        api.delete(resource.path_to("one")).raise_for_status()
        assert len(_finalizers(api, resource)) == 3
        operator.start()
        seen.wait_for("DELETED", "one")
    assert not (tmp_path / "first").exists()
    assert not (tmp_path / "second").exists()


def _finalizers(api: Api, resource: Resource) -> list[str]:
    body = api.get(resource.path_to("one")).raise_for_status().json()
    return list(body["metadata"].get("finalizers", []))
