"""Promises that compose.yaml and the Dockerfile make, read from the files."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit import config
from services.__main__ import SERVICES, _settings
from tests.deploy.containers import ROOMS, ROOT, compose, dockerfile, interpolated, settings_of

SECRETS = ("_KEY", "_KEYS", "_PASSWORD", "_URL")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def test_nothing_is_reached_from_beyond_this_machine(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert len({port.rsplit(":", 1)[0] for port in ports}) == len(ports)


def test_no_secret_has_a_default(services: dict[str, Any], variables: dict[str, str]) -> None:
    for name, service in services.items():
        for setting, value in service.get("environment", {}).items():
            if setting.endswith(SECRETS):
                with pytest.raises(KeyError):
                    interpolated(str(value), {})
                interpolated(str(value), variables)
            else:
                assert "PASSWORD" not in str(value), (name, setting)


def test_env_is_for_its_owner_alone_and_never_overwritten(env_file: Path) -> None:
    before = env_file.read_text()

    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "env.sh"), str(env_file)], capture_output=True, text=True, check=False
    )

    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert done.returncode == 1
    assert "exists" in done.stderr
    assert env_file.read_text() == before


@pytest.mark.parametrize("room", ROOMS)
def test_a_service_runs_from_its_own_extra_on_a_read_only_root_with_its_own_volume(
    room: str, services: dict[str, Any]
) -> None:
    service = services[room]

    assert service["build"]["args"]["SERVICE"] == room
    assert service["command"] == [room]
    assert (ROOT / "locks" / f"{room}.txt").exists()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert f"{room}:{service['environment']['TURNOUT_DATA_DIR']}" in service["volumes"]
    assert room in compose()["volumes"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_stop_waits_longer_than_the_drain(room: str, services: dict[str, Any]) -> None:
    drain = float(services[room]["environment"]["TURNOUT_DRAIN_SECONDS"])

    # HTTP and gRPC one after the other, then the spool's five seconds and the trace exporter's ten.
    assert int(services[room]["stop_grace_period"].removesuffix("s")) > 2 * drain + 5 + 10


def test_what_a_service_waits_for_is_there_and_can_become_healthy(services: dict[str, Any]) -> None:
    waits = {(name, other): wait for name in services for other, wait in services[name].get("depends_on", {}).items()}

    for (_, other), wait in waits.items():
        is_ours = "build" in services[other]
        if wait["condition"] == "service_healthy":
            assert is_ours or "healthcheck" in services[other]
    assert waits["registry", "migrate"]["condition"] == "service_completed_successfully"
    for room in ROOMS[1:]:
        assert waits[room, "registry"]["condition"] == "service_healthy"


def test_the_user_is_nobody_special_and_owns_what_volumes_cover() -> None:
    steps = dockerfile("registry")

    assert next(step.text for step in steps if step.word == "USER") == "10001"
    made = next(step.text for step in steps if step.word == "RUN" and "useradd" in step.text)
    targets = {volume.split(":")[1] for room in ROOMS for volume in compose()["services"][room]["volumes"]}
    assert "--uid 10001" in made
    assert all(f" {target}" in made for target in targets), targets


def test_each_setting_given_is_one() -> None:
    known = {name for settings in _settings(SERVICES) for name in config.variables(settings)}
    unbuilt = [room for room in ROOMS if room not in SERVICES]

    for room in ROOMS:
        given = [name for name in compose()["services"][room]["environment"] if name.startswith("TURNOUT_")]
        unknown = {name for name in given if name not in known}
        assert [name for name in unknown if not any(f"_{other.upper()}_" in name for other in unbuilt)] == []


def test_images_are_pinned(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]

    assert [image for image in images if image.partition(":")[2] in ("", "latest")] == []


def test_python_finds_the_code_where_it_is_copied() -> None:
    steps = dockerfile("executor")
    copied = [step.text.split()[1] for step in steps if step.word == "COPY"]

    assert settings_of(steps)["PYTHONPATH"] == "/app:/app/protos/gen"
    assert {"protos/gen/", "kit/", "catalog/", "completions/", "services/"} <= set(copied)


def test_the_collector_passes_traces_on_to_where_jaeger_listens(services: dict[str, Any]) -> None:
    collector = yaml.safe_load((ROOT / "deploy" / "otel" / "collector.yaml").read_text())
    pipeline = collector["service"]["pipelines"]["traces"]

    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) <= set(collector[kind])
    assert collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317")
    assert collector["exporters"]["otlp/jaeger"]["endpoint"] == "jaeger:4317"
    for room in ROOMS:
        assert services[room]["environment"]["TURNOUT_OTLP_ENDPOINT"] == "http://otel-collector:4317"


def test_prometheus_scrapes_every_service_at_its_port(services: dict[str, Any]) -> None:
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    targets = {target: group["labels"]["service"] for group in scrape["static_configs"] for target in group["targets"]}

    assert targets == {
        f"{room}:{services[room]['environment']['TURNOUT_METRICS_ADDRESS'].split(':')[1]}": room for room in ROOMS
    }
