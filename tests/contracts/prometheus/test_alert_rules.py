"""The alert rules and the dashboard: each rule fires when it should and not before, each query names what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_mlops.cli import main
from airflow_mlops.core.overview.loop_metrics import METRICS
from tests.contracts.gateway.toy_project import ToyProject, row
from tests.contracts.prometheus.measured_loops import samples_of
from tests.contracts.prometheus.prometheus_server import promtool

LOOP = 'model="m"'
GATEWAY = 'job="g", instance="i"'
CASES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "AirflowMlopsExporterAbsent": ({"other": "1x60"}, {"airflow_mlops_up": "1x60"}, "15m"),
    "AirflowMlopsLedgerUnreadable": ({"airflow_mlops_up": "0x60"}, {"airflow_mlops_up": "1x60"}, "10m"),
    "AirflowMlopsStateUnreadable": (
        {f"airflow_mlops_projection_readable{{{LOOP}}}": "0x60"},
        {f"airflow_mlops_projection_readable{{{LOOP}}}": "1x60"},
        "10m",
    ),
    # Time begins at 0, so the newest partition of a loop that stopped is one of before it.
    "AirflowMlopsLoopStopped": (
        {
            f"airflow_mlops_newest_published_timestamp_seconds{{{LOOP}}}": "-3500x60",
            f"airflow_mlops_partition_interval_seconds{{{LOOP}}}": "1200x60",
        },
        {
            f"airflow_mlops_newest_published_timestamp_seconds{{{LOOP}}}": "-1000x60",
            f"airflow_mlops_partition_interval_seconds{{{LOOP}}}": "1200x60",
        },
        "20m",
    ),
    "AirflowMlopsScoringStopped": (
        {
            f"airflow_mlops_newest_published_timestamp_seconds{{{LOOP}}}": "9000x90",
            f"airflow_mlops_newest_scored_timestamp_seconds{{{LOOP}}}": "1000x90",
            f"airflow_mlops_partition_interval_seconds{{{LOOP}}}": "3600x90",
        },
        {
            f"airflow_mlops_newest_published_timestamp_seconds{{{LOOP}}}": "9000x90",
            f"airflow_mlops_newest_scored_timestamp_seconds{{{LOOP}}}": "5400x90",
            f"airflow_mlops_partition_interval_seconds{{{LOOP}}}": "3600x90",
        },
        "70m",
    ),
    "AirflowMlopsPartitionRefused": (
        {f"airflow_mlops_refusals_total{{{LOOP}}}": "3x10 4x50"},
        {f"airflow_mlops_refusals_total{{{LOOP}}}": "3x60"},
        "30m",
    ),
    "AirflowMlopsQuarantineHigh": (
        {f"airflow_mlops_quarantined_ratio{{{LOOP}}}": "0.06x60"},
        {f"airflow_mlops_quarantined_ratio{{{LOOP}}}": "0.05x60"},
        "1m",
    ),
    "AirflowMlopsLabelsLate": (
        {
            f"airflow_mlops_label_delay_seconds{{{LOOP}}}": "14500x90",
            f"airflow_mlops_partition_interval_seconds{{{LOOP}}}": "3600x90",
        },
        {
            f"airflow_mlops_label_delay_seconds{{{LOOP}}}": "14400x90",
            f"airflow_mlops_partition_interval_seconds{{{LOOP}}}": "3600x90",
        },
        "70m",
    ),
    "AirflowMlopsAlarmOpen": (
        {f'airflow_mlops_alarm_open{{{LOOP}, check="drift"}}': "1x1600"},
        {f'airflow_mlops_alarm_open{{{LOOP}, check="drift"}}': "1x700 0x1 1x900"},
        "1500m",
    ),
    "AirflowMlopsEscalated": (
        {f"airflow_mlops_escalation_open{{{LOOP}}}": "1x60"},
        {f"airflow_mlops_escalation_open{{{LOOP}}}": "0x60"},
        "1m",
    ),
    "AirflowMlopsRolledBack": (
        {f"airflow_mlops_rollbacks_total{{{LOOP}}}": "0x10 1x50"},
        {f"airflow_mlops_rollbacks_total{{{LOOP}}}": "7x60"},
        "30m",
    ),
    "AirflowMlopsApprovalWaits": (
        {f"airflow_mlops_rollout_paused{{{LOOP}}}": "1x1600", f"airflow_mlops_approvals_open{{{LOOP}}}": "0x1600"},
        {f"airflow_mlops_rollout_paused{{{LOOP}}}": "0x1600", f"airflow_mlops_approvals_open{{{LOOP}}}": "0x1600"},
        "1500m",
    ),
    "AirflowMlopsGatewayDown": (
        {f"airflow_mlops_gateway_ready{{{GATEWAY}}}": "1x10", f"up{{{GATEWAY}}}": "1x10 0x50"},
        # Another target that is down was never a gateway.
        {f"airflow_mlops_gateway_ready{{{GATEWAY}}}": "1x60", 'up{job="n", instance="i"}': "0x60"},
        "15m",
    ),
    "AirflowMlopsGatewayNotReady": (
        {f"airflow_mlops_gateway_ready{{{GATEWAY}}}": "0x60"},
        {f"airflow_mlops_gateway_ready{{{GATEWAY}}}": "1x60"},
        "10m",
    ),
    "AirflowMlopsGatewayErrors": (
        {
            f'airflow_mlops_gateway_requests_total{{{GATEWAY}, status="200"}}': "0+95x60",
            f'airflow_mlops_gateway_requests_total{{{GATEWAY}, status="500"}}': "0+5x60",
        },
        {
            f'airflow_mlops_gateway_requests_total{{{GATEWAY}, status="200"}}': "0+95x60",
            f'airflow_mlops_gateway_requests_total{{{GATEWAY}, status="422"}}': "0+5x60",
            f'airflow_mlops_gateway_requests_total{{{GATEWAY}, status="500"}}': "0x60",
        },
        "20m",
    ),
    "AirflowMlopsGatewayFallback": (
        {f"airflow_mlops_gateway_rows_instead_total{{{GATEWAY}}}": "0+1x60"},
        {f"airflow_mlops_gateway_rows_instead_total{{{GATEWAY}}}": "8x60"},
        "20m",
    ),
    "AirflowMlopsGatewayTripped": (
        {f"airflow_mlops_gateway_tripped{{{GATEWAY}}}": "1x60"},
        {f"airflow_mlops_gateway_tripped{{{GATEWAY}}}": "0x60"},
        "1m",
    ),
    "AirflowMlopsGatewayLogLost": (
        {f"airflow_mlops_gateway_log_lines_lost_total{{{GATEWAY}}}": "0x5 9x55"},
        {f"airflow_mlops_gateway_log_lines_lost_total{{{GATEWAY}}}": "9x60"},
        "10m",
    ),
}
"""For each rule the series under which it fires at a time and those under which it does not."""
EXPORTER_UP = {"airflow_mlops_up": "1x1600"}


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return a file that the package brings, as the command line prints it."""
    assert main(["metrics", f"--{name}"]) == 0
    return capsys.readouterr().out


@pytest.fixture
def rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The file of rules as a user takes it."""
    file = tmp_path / "airflow_mlops_rules.yml"
    file.write_text(printed("rules", capsys))
    return file


def alerts_of(rules: Path) -> dict[str, Any]:
    """Return the rules of a file by their names."""
    groups = yaml.safe_load(rules.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def queries(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return every query of the dashboard, with values for its variables."""
    dashboard = json.loads(printed("dashboard", capsys))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(expressions) >= 20
    return [text.replace("$__rate_interval", "5m").replace("$model", ".*") for text in expressions]


def named(expression: str) -> set[str]:
    """Return the metrics of this package that an expression names."""
    return set(re.findall(r"\bairflow_mlops_\w+", expression))


def test_prometheus_reads_the_rules_and_each_says_what_to_do(rules: Path) -> None:
    assert "SUCCESS: 18 rules found" in promtool("check", "rules", str(rules))
    for name, rule in alerts_of(rules).items():
        assert name.startswith("AirflowMlops")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize("fires", [True, False], ids=["fires", "stays-quiet"])
def test_every_rule_fires_on_its_fault_and_on_no_other(rules: Path, tmp_path: Path, fires: bool) -> None:
    alerts = alerts_of(rules)
    assert CASES.keys() == alerts.keys()
    tests = []
    for name, (faulty, sound, at) in CASES.items():
        series = faulty if fires else sound
        if name != "AirflowMlopsExporterAbsent":
            series = {**EXPORTER_UP, **series}
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                # Labels of an expected alert would have to be spelt out; its number is what counts here.
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                        "eval_time": at,
                        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                    }
                ],
            }
        )
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_every_query_of_the_dashboard_is_one_that_prometheus_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(queries(capsys))]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    assert f"SUCCESS: {len(recorded)} rules found" in promtool("check", "rules", str(file))


def test_every_rule_and_every_query_names_metrics_that_a_page_has(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = ToyProject(tmp_path)
    try:
        gateway, _ = project.serve(1, 2, kind="canary", share=50)
        gateway.predict([row("a"), row("b")])
        with gateway.client() as client:
            page = client.get("/metrics")
    finally:
        project.close()
    assert page.status_code == 200
    known = {name for name, *_ in samples_of(page.text)} | {metric.name for metric in METRICS}
    rule_names = {name for rule in alerts_of(rules).values() for name in named(rule["expr"])}
    query_names = {name for query in queries(capsys) for name in named(query)}
    variables = named(json.dumps(json.loads(printed("dashboard", capsys))["templating"]))
    assert rule_names | query_names | variables <= known
    assert len(query_names) >= 20
    # Every metric is drawn or watched but these, which are for queries of a person.
    undrawn = {metric.name for metric in METRICS} - rule_names - query_names - variables
    assert undrawn == {
        "airflow_mlops_build_info",
        "airflow_mlops_champion_trained_until_timestamp_seconds",
        "airflow_mlops_newest_judged_timestamp_seconds",
        "airflow_mlops_rollout_info",
        "airflow_mlops_rollout_open",
        "airflow_mlops_rollout_stage",
    }
