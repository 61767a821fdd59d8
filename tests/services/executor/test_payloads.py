from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.targets import Target
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant, View
from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from kit.events.pieces import MAX_BYTES, PIECE_BYTES
from services.executor.domain import FinishReason, ProviderAnswer, Run, RunCall, Source, Usage
from services.executor.payloads import payload

VARIANT = Variant("var_1", 1, "v1", "V1", True, 100, Completion("ver_1", 0, None))
REVISION = Revision("rev_1", "1.0", "salt", (VARIANT,))
PROJECT = Project("prj_shop", 1, "shop")
DEPLOYMENT = Deployment("dep_1", "prj_shop", "assistant", DeploymentKind.COMPLETION, {"live": REVISION})
TARGET = Target(PROJECT, DEPLOYMENT, "live", REVISION)


def said(
    variables: str, messages: tuple[Message, ...] = (), *, answer: Message | None = None, parsed: bool = True
) -> Run:
    call = RunCall("assistant", variables, messages, "", "", "", "", "", Source.API, "prj_shop", "k", "0" * 32, 1e12)
    run = Run("req_1", call, View(), PROJECT, TARGET, 0, 0.0, messages, has_variables=parsed)
    if answer is not None:
        run.answer = ProviderAnswer(answer, FinishReason.STOP, Usage(), "m", 200)
    return run


def document(run: Run) -> Any:
    return json.loads(b"".join(payload(run).pieces))


def test_both_sides_are_one_json_object_that_begins_with_the_answer() -> None:
    messages = (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, parts=(TextPart("what?"), ImagePart("https://x/y", "low"))),
        Message(
            Role.ASSISTANT,
            tool_calls=(ToolCall("c1", "look", "{"), ToolCall("c2", "see", "{}", '{"g":1}')),
            reasoning="hm",
        ),
        Message(Role.TOOL, "a cat", name="eye", tool_call_id="c1"),
    )
    found = document(said('{"b": 1, "a": 2}', messages, answer=Message(Role.ASSISTANT, "Paris.")))

    assert found == {
        "message": {"role": "assistant", "content": "Paris."},
        "variables": {"b": 1, "a": 2},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "parts": [{"text": "what?"}, {"image": {"url": "https://x/y", "detail": "low"}}]},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c1", "tool": "look", "arguments_json": "{"},
                    {"id": "c2", "tool": "see", "arguments_json": "{}", "extra_content_json": '{"g":1}'},
                ],
                "reasoning": "hm",
            },
            {"role": "tool", "content": "a cat", "name": "eye", "tool_call_id": "c1"},
        ],
    }
    assert list(found) == ["message", "variables", "messages"]
    assert list(found["variables"]) == ["b", "a"]


def test_no_variables_are_an_empty_object_and_no_answer_is_no_message() -> None:
    assert document(said("")) == {"variables": {}, "messages": []}


@pytest.mark.parametrize("text", ["{", '"}', "[1"])
def test_variables_that_were_refused_are_kept_as_text(text: str) -> None:
    assert document(said(text, parsed=False))["variables"] == text


def test_a_question_that_is_cut_does_not_cost_the_answer() -> None:
    question = (Message(Role.USER, "x" * 2 * MAX_BYTES),)
    found = payload(said("", question, answer=Message(Role.ASSISTANT, "Paris.")))
    assert found.truncated
    assert found.pieces[0].startswith(b'{"message":{"role":"assistant","content":"Paris."},"variables":{},"messages":[')
    assert sum(map(len, found.pieces)) == MAX_BYTES


@given(
    st.integers(0, 3 * MAX_BYTES // PIECE_BYTES).map(lambda halves: halves * PIECE_BYTES // 2),
    st.integers(-120, 40),
    st.none() | st.sampled_from([1, PIECE_BYTES, MAX_BYTES]),
)
def test_pieces_are_bounded_and_make_up_the_text_up_to_the_cut(size: int, more: int, answer_size: int | None) -> None:
    content = "x" * max(0, size + more)
    answer = None if answer_size is None else Message(Role.ASSISTANT, "y" * answer_size)
    found = payload(said("", (Message(Role.USER, content),), answer=answer))
    whole = json.dumps(
        ({"message": {"role": "assistant", "content": answer.content}} if answer else {})
        | {"variables": {}, "messages": [{"role": "user"} | ({"content": content} if content else {})]},
        separators=(",", ":"),
    ).encode()
    assert b"".join(found.pieces) == whole[:MAX_BYTES]
    assert len(found.pieces) == -(-min(len(whole), MAX_BYTES) // PIECE_BYTES)
    assert found.truncated is (len(whole) > MAX_BYTES)
    assert all(0 < len(piece) <= PIECE_BYTES for piece in found.pieces)
