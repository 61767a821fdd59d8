"""What GetCodeSnippets answers is run, as whoever copies it would."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from stack.services import Installation
from tests.system.clients import Clients, eventually
from tests.system.node import NodeSdk
from turnout.registry.v1 import deployment_pb2, routing_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("installation", ["all"], indirect=True)]

PROGRAMS = ["python-openai", "node-openai", "python-grpc", "curl", "cli"]


async def _run(name: str, code: str, key: str, folder: Path, node_sdk: NodeSdk) -> str:
    if name.startswith("node"):
        return await asyncio.to_thread(node_sdk.run, code, TURNOUT_API_KEY=key)
    command = {"python": [sys.executable, "-c", code], "curl": ["sh", "-c", code], "cli": ["sh", "-c", code]}
    # Where `turnout` is installed.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = await asyncio.to_thread(
        subprocess.run,
        command[name.split("-")[0]],
        cwd=folder,
        env=os.environ | {"TURNOUT_API_KEY": key, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_variants_snippet_reaches_that_variant(
    installation: Installation, shop: Clients, instant_llm: str, tmp_path: Path, node_sdk: NodeSdk, name: str
) -> None:
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    await shop.create_provider("instant", instant_llm)
    made = await shop.create_deployment("helper", "instant", prompts=["A {{ city }}", "B {{ city }} {{ days }}"])
    variant = made.variants[1]
    found = await _snippets(installation, shop, variant.name)

    assert "The capital of France is Paris." in await _run(name, _code_of(found, name), shop.key, tmp_path, node_sdk)

    async def logged() -> None:
        logs = await shop.all_logs("helper")
        assert [log.request.served_variant for log in logs] == [variant.uid]

    await eventually(logged)


@pytest.mark.parametrize("name", PROGRAMS)
async def test_the_snippet_of_a_variant_that_a_rule_reaches_carries_the_context_that_leads_there(
    installation: Installation, shop: Clients, instant_llm: str, tmp_path: Path, node_sdk: NodeSdk, name: str
) -> None:
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    await shop.create_provider("instant", instant_llm)
    made = await shop.create_deployment("helper", "instant", prompts=["A {{ city }}", "B {{ city }}"])
    await shop.update_variant(made.variants[1].name, weight=0)
    wanted = deployment_pb2.Deployment(name=made.name)
    for field, kind in (("country", routing_pb2.FIELD_KIND_STRING), ("age", routing_pb2.FIELD_KIND_NUMBER)):
        wanted.routing.fields.add(name=field, kind=kind)
    for condition, index in (("context.age >= 64", 0), ('context.country == "ES" && context.age > 17', 1)):
        wanted.routing.rules.add(display_name=condition, condition=condition, variant=made.variants[index].slug)
    await shop.write(
        shop.deployments.UpdateDeployment,
        pb.UpdateDeploymentRequest(deployment=wanted, update_mask=FieldMask(paths=["routing"])),
    )
    variant = made.variants[1]
    found = await _snippets(installation, shop, variant.name)

    assert "The capital of France is Paris." in await _run(name, _code_of(found, name), shop.key, tmp_path, node_sdk)

    async def logged() -> None:
        logs = [log.request for log in await shop.all_logs("helper")]
        assert [(log.served_variant, log.decision.rule_name) for log in logs] == [
            (variant.uid, wanted.routing.rules[1].display_name)
        ]
        assert json.loads(logs[0].context_json) == {"country": "ES", "age": 18}

    await eventually(logged)


async def test_a_deployments_snippet_reaches_the_deployment(
    installation: Installation, shop: Clients, instant_llm: str, tmp_path: Path, node_sdk: NodeSdk
) -> None:
    await shop.create_provider("instant", instant_llm)
    made = await shop.create_deployment("helper", "instant", prompts=["A {{ city }}", "B {{ city }}"])
    found = await _snippets(installation, shop, made.name)
    assert not found.routing_key
    for name in ("python-openai", "python-grpc"):
        assert "The capital of France is Paris." in await _run(
            name, _code_of(found, name), shop.key, tmp_path, node_sdk
        )


@pytest.mark.parametrize("name", ["python-grpc", "cli"])
async def test_a_slots_snippet_reaches_that_slot(
    installation: Installation,
    shop: Clients,
    artifacts: dict[str, Path],
    tmp_path: Path,
    node_sdk: NodeSdk,
    name: str,
) -> None:
    models = [await shop.upload(folder, name) for name, folder in artifacts.items()]
    made = await shop.create_slots("top", **{model.uid: 50 for model in models})
    slot = made.variants[1]
    found = await _snippets(installation, shop, slot.name)

    async def answered() -> str:
        return await _run(name, _code_of(found, name), shop.key, tmp_path, node_sdk)

    # The model loads when the slot is there.
    lines = (await eventually(answered)).splitlines()
    assert len([line for line in lines if "item-" in line]) == 10

    async def logged() -> None:
        logs = [log.request for log in await shop.all_logs("top")]
        assert [log.user for log in logs if log.served_variant == slot.uid] == [found.routing_key]

    await eventually(logged)


async def _snippets(installation: Installation, shop: Clients, name: str) -> pb.GetCodeSnippetsResponse:
    request = pb.GetCodeSnippetsRequest(
        name=name, http_url=f"http://{installation.http_address}", grpc_address=installation.address("executor")
    )
    return await shop.read(shop.deployments.GetCodeSnippets, request)


def _code_of(found: pb.GetCodeSnippetsResponse, name: str) -> str:
    [code] = [each.code for each in found.snippets if each.snippet == name]
    return code
