"""The page of `kopf-finalizers adopt`: its operator has run, and the command prints what it has."""

import contextlib
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from kopf_finalizers._cli.loading import operator_in
from kopf_finalizers.testing import ApiServer

from ..support.operators import running
from ..support.reader import steps_of
from ..support.servers import Resource, client_of, wait_until
from .test_commands import a_cluster, comparable, printed
from .test_pages import blocks_of

REPORTS = Resource("mycompany.com", "v1", "reports", "Report", "shop")
NAMES = ("april", "may")


def test_the_page_shows_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the operator that is shown, and of objects that it has handled."""
    monkeypatch.chdir(tmp_path)
    (operator,) = blocks_of("adopt.md", "python")
    Path("report_operator.py").write_text(operator)
    (block,) = blocks_of("adopt.md", "console cluster")
    ((command, output),) = steps_of(block)
    with a_cluster() as cluster:
        _handle(cluster)
        assert comparable(printed(command, cluster)) == comparable(output)


def _handle(cluster: ApiServer) -> None:
    """Have the operator of the page handle two objects."""
    registry, _ = operator_in(("report_operator.py",), (), verbose=True)
    with contextlib.closing(client_of(cluster)) as api, running(registry, cluster, REPORTS):
        for name in NAMES:
            api.create(REPORTS.path, REPORTS.body(name)).raise_for_status()
        wait_until(lambda: all(_is_handled(api.get(REPORTS.path_to(one)).json()) for one in NAMES))


def _is_handled(body: dict[str, dict[str, object]]) -> bool:
    return "annotations" in body["metadata"]
