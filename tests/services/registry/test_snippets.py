from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import plan, targets, view
from catalog.conditions import Field, FieldKind
from catalog.plan import KeyKind
from catalog.rules import match
from cli.contexts import context_json, variables_json
from kit.errors import Precondition
from services.registry.domain import (
    Addresses,
    Call,
    Completion,
    DeploymentKind,
    Revision,
    Routing,
    Rule,
    Share,
    Variant,
    caller_of,
    snippets,
)
from turnout.registry.v1 import deployment_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
ODD: Any = {"quote": "'\"`$(x)\\ \u2028\n${y}", "Zoë": [True, None, 1.5, {"a b": "</script>"}]}
ADDRESSES = Addresses("http://127.0.0.1:1", "127.0.0.1:2")


CALL = Call("user-7", ODD)
NOBODY = Call("", {})


def code(name: str, variables: Any = ODD) -> str:
    found = snippets(DeploymentKind.COMPLETION, "helper:beta", variables, CALL, ADDRESSES)
    return next(each.code for each in found if each.snippet == name)


@pytest.mark.parametrize("name", ["python-openai", "python-grpc"])
def test_python_is_python_with_the_variables_and_the_context_in_it(name: str) -> None:
    dictionaries = [node for node in ast.walk(ast.parse(code(name))) if isinstance(node, ast.Dict)]
    assert [ast.literal_eval(node) for node in dictionaries if "client" not in ast.dump(node)].count(ODD) == 2


def test_javascript_is_javascript_with_the_variables_in_it(tmp_path: Path) -> None:
    node = Path(sys.executable).with_name("node")
    (tmp_path / "call.mjs").write_text(code("node-openai"))
    subprocess.run([node, "--check", "call.mjs"], cwd=tmp_path, check=True)
    for member in ("  input: ", "  context: "):
        [line] = [line for line in code("node-openai").splitlines() if line.startswith(member)]
        script = f"console.log(JSON.stringify({line.removeprefix(member).removesuffix(',')}))"
        done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == ODD


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell here")
def test_the_shell_passes_the_variables_on(tmp_path: Path) -> None:
    (tmp_path / "curl").write_text('#!/bin/sh\nfor each in "$@"; do printf "%s" "$each" > "$OUT"; done\n')
    (tmp_path / "curl").chmod(0o755)
    out = tmp_path / "out"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "OUT": str(out), "TURNOUT_API_KEY": "tk_x"}
    subprocess.run(["sh", "-c", code("curl")], env=environment, check=True)
    body = json.loads(out.read_text())
    assert (body["input"], body["user"], body["model"]) == (ODD, "user-7", "turnout/deployment/helper:beta")
    assert body["context"] == ODD
    assert shlex.split(code("curl"))[0] == "curl"


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell here")
def test_the_command_line_gets_them_from_the_shell(tmp_path: Path) -> None:
    (tmp_path / "turnout").write_text('#!/bin/sh\nfor each in "$@"; do printf "%s\\0" "$each"; done\n')
    (tmp_path / "turnout").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", code("cli")], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=True
    )
    words = done.stdout.decode().split("\0")[:-1]
    options = [(name, value) for name, value in pairwise(words) if name.startswith("--")]

    assert words[:5] == ["--address", "127.0.0.1:2", "run", "helper:beta", "Hello!"]
    assert json.loads(variables_json([value for name, value in options if name == "--variable"])) == ODD
    assert json.loads(context_json([value for name, value in options if name == "--context"])) == ODD
    assert ("--key", "user-7") in options


def test_a_name_that_the_command_line_cannot_say_leaves_it_out() -> None:
    found = snippets(DeploymentKind.COMPLETION, "helper", {"a=b": 1}, NOBODY, ADDRESSES)
    assert "cli" not in [each.snippet for each in found]


def test_nothing_that_is_not_needed_stands_in_them() -> None:
    words = (
        "input",
        "variables_json",
        "user=",
        '"user":',
        "routing_key",
        "context",
        "extra_body",
        "--variable",
        "--key",
    )
    for each in snippets(DeploymentKind.COMPLETION, "helper", {}, NOBODY, ADDRESSES):
        assert not any(word in each.code for word in words)
    for each in snippets(DeploymentKind.RECOMMENDATION, "top", {}, NOBODY, ADDRESSES):
        assert "context" not in each.code
        assert "json" not in each.code


def test_what_must_be_changed_stands_in_a_comment_above_the_program() -> None:
    sentences = ["variables.code must match coding: utf-7\n$(x)", "variables.n must be at least 3"]
    found = snippets(DeploymentKind.COMPLETION, "helper", {"code": "x"}, NOBODY, ADDRESSES, sentences)

    for each in found:
        mark = "//" if each.language == "javascript" else "#"
        lines = each.code.splitlines()
        assert lines[2:4] == [f"{mark} variables.code must match coding: utf-7\\n$(x)", f"{mark} {sentences[1]}"]
        assert all(line.startswith(mark) for line in lines[:4])
        if each.language == "python":
            ast.parse(each.code.encode())


async def test_the_caller_in_them_is_served_by_the_variant(registry: Any, shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project, "helper", tuple(f"{n} {{{{ name }}}}" for n in range(6)))
    for index, variant in enumerate(request.deployment.variants):
        variant.weight = 100 if index == 0 else 0.5
    made = await shop.call("CreateDeployment", request)
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    target = targets.resolve(view, made.name, tenant="")
    for variant in made.variants:
        found = await shop.call("GetCodeSnippets", pb.GetCodeSnippetsRequest(name=variant.name))
        assert plan.decide(target, KeyKind.ROUTING_KEY, found.routing_key).variant.uid == variant.uid
        assert all(found.routing_key in each.code for each in found.snippets)
        assert [each.snippet for each in found.snippets] == [
            "python-openai",
            "node-openai",
            "python-grpc",
            "curl",
            "cli",
        ]
        assert '"name": "name"' in found.snippets[0].code


@given(
    weights=st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=3, max_size=3),
    active=st.lists(st.booleans(), min_size=3, max_size=3),
    rules=st.lists(
        st.tuples(
            st.sampled_from(["true", "false", "!present.country", 'context.country == "ES"']),
            st.booleans(),
            st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0])), min_size=1, max_size=2),
        ),
        max_size=3,
    ),
    coverage=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_caller_is_whom_the_planner_sends_to_the_variant_and_none_only_if_it_sends_nobody(
    weights: list[float], active: list[bool], rules: list[Any], coverage: float
) -> None:
    variants = [
        Variant(f"var_{n}", n, f"v{n}", "V", "", active[n], weights[n], Completion("ver_1", 0, None)) for n in range(3)
    ]
    made = tuple(
        Rule(f"rul_{n}", "R", condition, is_active, tuple(Share(f"var_{v}", weight) for v, weight in shares))
        for n, (condition, is_active, shares) in enumerate(rules)
    )
    routing = Routing((Field("country", FieldKind.STRING),), made, coverage, "var_1")
    revision = Revision("rev_1", "", "", 1, 0, "salt", "", "", MOMENT, False, tuple(variants), routing)
    seen = _unpacked(revision)
    # There are no more ways that these rules could tell apart.
    matched = [match(seen, context) for context in ({}, {"country": "ES"}, {"country": "FR"})]
    met = [plan.choose(seen, "dep_1", f"user-{n}", rule).variant for rule in matched for n in range(1, 101)]

    for variant in variants:
        call = caller_of("dep_1", revision, variant)
        if call is None:
            assert not any(each is not None and each.uid == variant.uid for each in met)
        else:
            chosen = plan.choose(seen, "dep_1", call.routing_key, match(seen, call.context)).variant
            assert chosen is not None
            assert chosen.uid == variant.uid


def _unpacked(revision: Revision) -> view.Revision:
    """As a service has it."""
    variants = [
        view.Variant(v.uid, v.number, v.slug, v.display_name, v.active, v.weight, view.Completion("ver_1", 0, None))
        for v in revision.variants
    ]
    return view.Revision(revision.uid, revision.number, revision.salt, tuple(variants), revision.routing)


async def test_a_deployment_is_called_by_nobody_in_particular_where_the_operator_says(
    shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper"))
    found = await shop.call("GetCodeSnippets", pb.GetCodeSnippetsRequest(name=made.name))
    assert (found.routing_key, found.context_json) == ("", "")
    assert "http://127.0.0.1:8080/v1" in found.snippets[0].code
    elsewhere = pb.GetCodeSnippetsRequest(name=made.name, http_url="https://llm.example.org/", grpc_address="g:1")
    found = await shop.call("GetCodeSnippets", elsewhere)
    assert "https://llm.example.org/v1/chat" in found.snippets[3].code
    assert '"g:1"' in found.snippets[2].code


async def test_a_variant_that_serves_nobody_has_no_caller(shop: Any, deployment_request: Any) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    failure = await shop.fails("GetCodeSnippets", pb.GetCodeSnippetsRequest(name=made.variants[1].name))
    assert (type(failure), failure.reason) == (Precondition, "VARIANT_NOT_REACHABLE")


async def test_recommendations_are_asked_by_grpc_and_on_the_command_line(
    registry: Any, shop: Any, model_request: Any
) -> None:
    model = await registry.service.call("RegisterModel", model_request(shop))
    request = pb.CreateDeploymentRequest(parent=f"projects/{shop.project}", deployment_id="top")
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    request.deployment.variants.add().recommendation.model = model.uid
    made = await shop.call("CreateDeployment", request)

    python, command = (await shop.call("GetCodeSnippets", pb.GetCodeSnippetsRequest(name=made.name))).snippets

    assert (python.snippet, command.snippet) == ("python-grpc", "cli")
    assert 'deployment="top"' in python.code
    ast.parse(python.code)
    assert "recommend top user-1" in command.code
