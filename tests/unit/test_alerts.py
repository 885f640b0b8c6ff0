"""`kopf-finalizers document --format prometheus`: alert rules over the series of the hooks."""

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from kopf_finalizers import instrumentation
from kopf_finalizers._cli import main

OPERATOR = '''
import kopf_finalizers

finalizers = kopf_finalizers.configure("mycompany.com", "db-operator")


@finalizers.on.delete("mycompany.com", "v1", "databases", finalizer="backups", leaves="{{ files }}")
def drop_backups(**_):
    """Drops the backups"""


@finalizers.on.daemon("mycompany.com", "v1", "databases")
async def watch(**_): ...
'''
OWN, BACKUPS = "mycompany.com/db-operator", "mycompany.com/db-operator.backups"
DURATION = re.compile(r"(\d+[smhd])+")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with an operator."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "db_operator.py").write_text(OPERATOR)
    return tmp_path


def printed(*options: str) -> str:
    arguments = ["document", "--format", "prometheus", *options, "db_operator.py"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def rules(*options: str) -> dict[tuple[str, str], Any]:
    """The rules by their names and the finalizers that they are about."""
    (group,) = yaml.safe_load(printed(*options))["groups"]
    assert group.keys() == {"name", "rules"}
    return {
        (rule["alert"], re.findall(r'finalizer="([^"]+)"', rule["expr"])[0]): rule
        for rule in group["rules"]
    }


def test_each_finalizer_has_a_rule_for_each_way_to_fail() -> None:
    """A cleanup with a finalizer of its own is counted there, and so not with the operator's."""
    assert list(rules()) == [
        ("FinalizerStuck", OWN),
        ("FinalizerCleanupFailing", OWN),
        ("FinalizerCleanupGivenUp", OWN),
        ("FinalizerStuck", BACKUPS),
        ("FinalizerCleanupFailing", BACKUPS),
        ("FinalizerCleanupGivenUp", BACKUPS),
        ("FinalizerCleanupOverdue", BACKUPS),
    ]
    described = rules()["FinalizerStuck", OWN]["annotations"]["description"]
    assert described == f"{OWN} waits for the daemon watch to stop."


def test_the_operators_own_finalizer_may_wait_for_nothing_else(folder: Path) -> None:
    """Then it can only be stuck."""
    (folder / "db_operator.py").write_text(OPERATOR.partition("@finalizers.on.daemon")[0])
    assert [name for name, finalizer in rules() if finalizer == OWN] == ["FinalizerStuck"]


def test_a_prometheus_server_takes_the_file() -> None:
    """The fields of a rule, its durations and its expressions are what the format has."""
    for rule in rules().values():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert DURATION.fullmatch(rule.get("for", "1m"))
        assert rule["labels"]["severity"] in ("info", "warning")
        promql_parser.parse(rule["expr"])


def test_the_expressions_ask_for_series_that_there_are() -> None:
    """Those of the hook, with labels that it has."""
    registry = CollectorRegistry()
    hook = instrumentation.PrometheusHook(registry=registry)
    assert hook is not None
    known = {
        name
        for family in registry.collect()
        for name in (family.name, f"{family.name}_total", f"{family.name}_count")
    }
    for rule in rules().values():
        asked = set(re.findall(r"kopf_finalizers_\w+", rule["expr"]))
        assert asked
        assert asked <= known


def test_a_rule_says_what_is_waited_for_and_how_to_look() -> None:
    """In the author's words, of which Prometheus takes nothing for a template."""
    rule = rules()["FinalizerStuck", BACKUPS]
    assert rule["annotations"]["description"] == (
        f"{BACKUPS} waits for drop_backups to succeed, or to be given up. Drops the backups."
        ' Stays behind without that: {{ "{{" }} files }}.'
    )
    assert rule["annotations"]["command"].startswith("kubectl get {{ $labels.resource }} --all")
    assert "{{ $labels.finalizer }}" in rule["annotations"]["summary"]


def test_who_waits_for_a_dedicated_finalizer_is_told_once() -> None:
    """The operator's own one goes last, so it is not stuck by itself while another is."""
    assert "unless ignoring (finalizer)" in rules()["FinalizerStuck", OWN]["expr"]
    assert "unless" not in rules()["FinalizerStuck", BACKUPS]["expr"]


def test_it_is_told_what_stuck_means() -> None:
    """An hour where nothing is said."""
    assert "> 3600" in rules()["FinalizerStuck", BACKUPS]["expr"]
    assert "> 90" in rules("--stuck-for", "1m30s")["FinalizerStuck", BACKUPS]["expr"]


def test_the_rules_are_kept_up_to_date(folder: Path) -> None:
    """As the page is; what is to be run to renew them has the same options."""
    (folder / "rules.yaml").write_text(printed("--stuck-for", "90s"))
    options = ["--format", "prometheus", "--check", "rules.yaml", "db_operator.py"]
    assert CliRunner().invoke(main, ["document", "--stuck-for", "90s", *options]).exit_code == 0
    result = CliRunner().invoke(main, ["document", "--stuck-for", "1h", *options])
    assert result.exit_code == 1
    assert "--format prometheus --stuck-for 1h db_operator.py --output rules.yaml" in result.output


def test_an_operator_without_finalizers_has_no_rules(folder: Path) -> None:
    """A file that is valid, and empty."""
    (folder / "db_operator.py").write_text(OPERATOR.partition("@")[0])
    assert yaml.safe_load(printed()) == {"groups": []}
