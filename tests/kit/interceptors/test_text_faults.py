from __future__ import annotations

import time
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from kit.interceptors.text_faults import path_of_bad_text
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2

RUN = pb.RunRequest.DESCRIPTOR


def request(**fields: Any) -> pb.RunRequest:
    made = pb.RunRequest(deployment="assistant", **fields)
    made.messages.add(content="first")
    made.messages.add(content="@@").parts.add(text="third")
    made.overrides.parameters.stop.extend(["one", "two"])
    return made


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("assistant", "deployment"),
        ("first", "messages[0].content"),
        ("@@", "messages[1].content"),
        ("third", "messages[1].parts[0].text"),
        ("two", "overrides.parameters.stop[1]"),
        ("u-1", "routing_key"),
    ],
)
def test_a_text_that_is_none_is_found_where_it_is(text: str, path: str) -> None:
    good = request(routing_key="u-1").SerializeToString()
    bad = good.replace(text.encode(), b"\xff" * len(text), 1)
    with pytest.raises(DecodeError):
        pb.RunRequest.FromString(bad)

    assert path_of_bad_text(good, RUN) == ""
    assert path_of_bad_text(bad, RUN) == path


def test_what_a_contract_does_not_know_is_passed_over() -> None:
    created = deployment_service_pb2.CreateDeploymentRequest(parent="projects/shop", deployment_id="guide")
    created.deployment.display_name = "Guide"
    bad = b"\xfa\x3f\x02\xff\xff" + created.SerializeToString().replace(b"Guide", b"\xc3\x28xyz")

    assert path_of_bad_text(bad, created.DESCRIPTOR) == "deployment.display_name"


@given(st.binary(max_size=200))
def test_any_bytes_have_a_path_or_none(data: bytes) -> None:
    path = path_of_bad_text(data, RUN)
    if path:
        with pytest.raises(DecodeError):
            pb.RunRequest.FromString(data)


def test_garbage_as_large_as_may_be_is_looked_through_quickly() -> None:
    begun = time.process_time()
    for data in (b"\x1a\x00" * (2 << 20), bytes(4 << 20), b"\x1a\x80\x80\x80\x02" + bytes(4 << 20)):
        assert path_of_bad_text(data, RUN) == ""

    # Before anybody is asked for a key.
    assert time.process_time() - begun < 0.3
