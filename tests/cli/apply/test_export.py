"""What is written into a file reads as it was."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.apply.export import Dumper, document
from cli.apply.plan import Server
from cli.apply.text import documents
from cli.client import Client
from kit.json import Json
from tests.cli.apply.files import FILE, Shop, actions, answer, done, written
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2_grpc,
    version_pb2,
    version_service_pb2_grpc,
)

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.from_regex(r"[-+0-9.eE_:xo~<>*&!|%@`'\"#{}\[\], \n\t]{1,12}", fullmatch=True),
    st.sampled_from(
        ["no", "Yes", "null", "~", "true", "1e5", "012", "09", "1_000", "12:30:00", "0x1f", "=", "<<", ".5", "a\n b\n"]
    ),
)
values: st.SearchStrategy[Json] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@given(values)
def test_any_value_that_is_written_is_read_as_it_was(value: Json) -> None:
    written = yaml.dump({"value": value}, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)

    [found] = documents(written.encode(), source="f.yaml")

    assert found.plain() == {"value": value}


class Refuses(deployment_service_pb2_grpc.DeploymentServiceServicer, version_service_pb2_grpc.VersionServiceServicer):
    """Has a deployment whose version has a schema, and answers every write with a status."""

    code = grpc.StatusCode.OK

    def GetDeployment(self, request: Any, context: Any) -> deployment_pb2.Deployment:
        found = deployment_pb2.Deployment(name=request.name)
        found.variants.add(slug="calm", active=True).completion.version = "ver_1"
        return found

    def GetVersion(self, request: Any, context: Any) -> version_pb2.Version:
        return version_pb2.Version(uid="ver_1", provider="p", model="m", variables_schema_json='{"type":"object"}')

    def PutVersion(self, request: Any, context: Any) -> version_pb2.Version:
        context.abort(self.code, "no")
        raise AssertionError("abort raises")


@pytest.fixture
def refuses() -> Iterator[tuple[Refuses, Server]]:
    server, serving = grpc.server(ThreadPoolExecutor(2)), Refuses()  # type: ignore[abstract]  # nothing else is asked
    deployment_service_pb2_grpc.add_DeploymentServiceServicer_to_server(serving, server)
    version_service_pb2_grpc.add_VersionServiceServicer_to_server(serving, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield serving, Server(Client({"": f"127.0.0.1:{port}"}, "", "shop"))
    server.stop(0)


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "FAILED_PRECONDITION", "INVALID_ARGUMENT"])
def test_where_the_shorter_file_is_refused_the_longer_says_the_same(refuses: tuple[Refuses, Server], code: str) -> None:
    serving, server = refuses
    serving.code = grpc.StatusCode[code]

    assert "variables_schema:" in document(server, "projects/shop/deployments/guide")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "INTERNAL", "NOT_FOUND"])
def test_where_nobody_could_say_nothing_is_exported(refuses: tuple[Refuses, Server], code: str) -> None:
    serving, server = refuses
    serving.code = grpc.StatusCode[code]

    with pytest.raises(grpc.RpcError) as failure:
        document(server, "projects/shop/deployments/guide")

    assert failure.value.code() is serving.code


def test_long_texts_are_written_as_people_read_them() -> None:
    text = "You greet guests.\n\nBe brief.\n"

    assert yaml.dump({"content": text}, Dumper=Dumper) == "content: |\n  You greet guests.\n\n  Be brief.\n"


@pytest.mark.slow
def test_what_is_exported_is_found_unchanged(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    rich = """\
kind: Deployment
name: rich
display_name: "1e5"
description: "# no comment: yes\\nsecond line "
salt: "no"
variants:
  calm:
    display_name: "Calm – ruhig 😀"
    notes: "line\\n  indented\\n\\ttabbed\\n"
    weight: 33.25
    active: false
    provider: local
    model: "012"
    parameters: {temperature: 0, top_p: 0.1, seed: 4611686018427387904, parallel_tool_calls: false, stop: ["no", "~"],
      extra: {nothing: null, deep: [[1, 2.5], {"on": "off"}]}}
    tools:
      - type: function
        function: {name: find, parameters: {type: object, properties: {size: {enum: ["1", 1, 1.5, "null", true]}}}}
    tool_choice: {type: function, function: {name: find}}
    response_format:
      type: json_schema
      json_schema: {name: answer, strict: true, schema: {type: object, properties: {answer: {type: string}}}}
    variables_schema: {type: object, properties: {country: {type: string, description: "the guest's"}}}
    messages:
      - {role: system, content: "On {{ country }}."}
      - {role: user, parts: [{text: see}, {image: {url: "https://example.com/y.png", detail: low}}]}
  lively:
    prompt: welcome@1
    provider: local
    model: m
    max_retries: 3
    attempt_timeout: 1500ms
    response_format:
      type: json_schema
      json_schema: {name: answer, strict: true, schema: {type: object, properties: {answer: {type: string}}}}
"""
    file = written(tmp_path, FILE.format(url=llm_url) + "---\n" + rich)
    done(shop("apply", "-f", file, "--yes"))

    exported = done(shop("deployments", "export", "rich"))
    written(tmp_path, exported, "exported.yaml")

    assert actions(shop, "-f", "exported.yaml") == {"Deployment rich": "keep"}, exported
    assert "prompt: welcome@1" in exported
    assert "attempt_timeout: 1.5s" in exported
    # In a project of its own it becomes the same.
    written(tmp_path, exported.replace("name: rich", "name: copy", 1), "copy.yaml")
    done(shop("apply", "-f", "copy.yaml", "--yes"))
    before, after = (answer(shop, "deployments", "show", name)["variants"] for name in ("rich", "copy"))
    # The slug comes from the display name, and the key finds it by that.
    assert [each["completion"] for each in before] == [each["completion"] for each in after]
    assert actions(shop, "-f", "copy.yaml") == {"Deployment copy": "keep"}


@pytest.mark.slow
def test_what_can_be_made_no_more_is_exported_all_the_same(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = """\
kind: Deployment
name: old
variants:
  calm:
    provider: local
    model: m
    variables_schema: {properties: {country: {type: string}}}
    messages: [{role: user, content: "On {{ country }}."}]
"""
    written(tmp_path, FILE.format(url=llm_url).partition("---")[0] + "---\n" + text)
    done(shop("apply", "-f", "guide.yaml", "--yes"))
    before = done(shop("deployments", "export", "old"))
    done(shop("deployments", "archive", "old"))
    done(shop("providers", "archive", "local"))

    assert done(shop("deployments", "export", "old")) == before
    assert "country:" in before
