"""The dashboard and the alerts, asked of Debian's Prometheus while it scrapes an installation that serves calls."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from stack.folder import free_port
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from tests.deploy.containers import ROOT
from tests.deploy.prometheus import Prometheus
from tests.deploy.traffic import Traffic
from tests.system.clients import tenant
from tests.system.processes import upstream

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "turnout.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

_METRIC = re.compile(r"\b(?:turnout|gen_ai|process|python)_\w+|\bup\b")

slow = [pytest.mark.slow, pytest.mark.timeout(240)]


def filled_in(expression: str) -> str:
    """As Grafana would, with everything selected and Prometheus at its pace here."""
    for name, variable in VARIABLES.items():
        expression = expression.replace(f"${name}", variable["allValue"])
    return expression.replace("$__rate_interval", "30s").replace("$__range", "1h")


class Watched:
    """An installation that serves calls, and the Prometheus that scrapes it."""

    def __init__(self, installation: Installation, prometheus: Prometheus, traffic: Traffic) -> None:
        self.installation = installation
        self.prometheus = prometheus
        self.traffic = traffic


@pytest.fixture(scope="module")
def watched(open_folder: Path, postgres: Postgres, prometheus_folder: Path) -> Iterator[Watched]:
    folder = open_folder / "watched"
    with ExitStack() as stack:
        # Its own: installations on one NATS would take each other's events.
        nats = stack.enter_context(Nats(folder / "nats"))
        # Without breakers, what always fails is tried as often as it may be.
        extra = {"TURNOUT_EXECUTOR_BREAKER_MIN_FAILURES": "0"}
        installation = Installation(folder, mode="split", postgres=postgres, nats=nats, database="watched", extra=extra)
        targets = {}
        for process in installation.processes:
            targets[process.name] = process.environment["TURNOUT_METRICS_ADDRESS"] = f"127.0.0.1:{free_port()}"
        stack.enter_context(installation)
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", prometheus_folder, targets))
        traffic = Traffic(installation)
        stack.callback(traffic.stop)
        traffic.start()
        yield Watched(installation, prometheus, traffic)


@pytest.mark.parametrize("panel", [pytest.param(panel, marks=slow, id=panel["title"]) for panel in PANELS])
def test_a_panel_shows_something(panel: dict[str, Any], watched: Watched) -> None:
    for target in panel["targets"]:
        expression = filled_in(target["expr"])

        assert watched.prometheus.numbers_soon(expression), expression
        watched.traffic.check()


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow) for name in VARIABLES])
def test_a_variable_offers_what_there_is(name: str, watched: Watched) -> None:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[name]["query"]["query"])
    assert match is not None
    selector = filled_in(match[1])
    assert watched.prometheus.numbers_soon(f"count({selector})")

    offered = watched.prometheus.get(f"label/{match[2]}/values", **{"match[]": selector})

    expected = {"project": {watched.traffic.project}, "deployment": {"bot", "free", "broken"}}.get(name)
    assert set(offered) == expected if expected else len(offered) >= 2


@pytest.mark.parametrize("rule", [pytest.param(rule, marks=slow, id=rule["alert"]) for rule in RULES])
def test_an_alert_looks_at_something_that_is_there(rule: dict[str, Any], watched: Watched) -> None:
    names = set(_METRIC.findall(rule["expr"]))

    assert names
    for name in names:
        assert watched.prometheus.numbers_soon(f'count({name}{{job="turnout"}})'), name
    watched.prometheus.get("query", query=rule["expr"])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_prometheus_counts_each_call_once(watched: Watched) -> None:
    watched.traffic.stop()
    watched.traffic.check()
    ended = watched.traffic.ended
    place = f'{{project="{watched.traffic.project}"'
    counts = {
        f'turnout_requests_total{place},status="ok"}}': ended["ok"] + ended["streamed"],
        f'turnout_requests_total{place},status="error"}}': ended["error"],
        f"turnout_request_duration_seconds_count{place}}}": sum(ended.values()),
        f"turnout_request_time_to_first_token_seconds_count{place}}}": ended["streamed"],
        f'turnout_tokens_total{place},type="input"}}': 24 * (ended["ok"] + ended["streamed"]),
        # Each is tried twice.
        'turnout_attempts_total{outcome!="ok"}': 2 * ended["error"],
        'gen_ai_client_token_usage_sum{gen_ai_token_type="output"}': 8 * (ended["ok"] + ended["streamed"]),
    }

    for selector, count in counts.items():
        assert watched.prometheus.numbers_soon(f"sum({selector}) == {count}", seconds=20), (
            selector,
            count,
            watched.prometheus.numbers(f"sum({selector})"),
        )


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_call_that_died_with_its_process_is_counted_as_lost_and_told_of(
    watched: Watched, open_folder: Path
) -> None:
    executor = watched.installation.process("executor")
    alert = next(rule for rule in RULES if rule["alert"] == "TurnoutLostRequests")
    with upstream(open_folder / "never", "--latency-ms", "600000") as never:
        async with tenant(watched.installation) as shop:
            await shop.create_provider("local", never)
            await shop.create_deployment("bot", "local")
            call = asyncio.create_task(shop.run("bot", timeout=60))
            open_calls = 'turnout_spool_open_calls{service="executor"} > 0'
            assert await asyncio.to_thread(watched.prometheus.numbers_soon, open_calls)
            executor.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await call
            await asyncio.to_thread(executor.start)

            lost = f'turnout_requests_total{{project="{shop.project}",status="lost"}}'
            assert await asyncio.to_thread(watched.prometheus.numbers_soon, lost) == [1]
            assert watched.prometheus.numbers(alert["expr"])


def test_panels_do_not_overlap_and_fill_their_rows() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[(x, y)])
                taken[(x, y)] = panel["title"]
    assert len(taken) == 24 * (1 + max(y for _, y in taken))
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Traffic",
        "Quality",
        "Money",
        "Health",
    ]


def test_every_panel_has_a_unit_and_a_source_that_is_provisioned() -> None:
    provisioned = yaml.safe_load(
        (ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "turnout.yml").read_text()
    )
    uids = {source["uid"] for source in provisioned["datasources"]}

    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.slow
def test_promtool_takes_the_configuration_and_each_alert_fires_on_its_trouble_alone(prometheus_folder: Path) -> None:
    promtool = str(prometheus_folder / "promtool")
    for arguments in (
        ["check", "config", str(ROOT / "deploy" / "prometheus" / "prometheus.yml")],
        ["test", "rules", str(ROOT / "tests" / "deploy" / "alerts.test.yml")],
    ):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load((ROOT / "tests" / "deploy" / "alerts.test.yml").read_text())["tests"]
    for test in tested:
        assert {case["alertname"] for case in test["alert_rule_test"]} == {rule["alert"] for rule in RULES}
