from __future__ import annotations

import asyncio
from typing import Any

import openai
import orjson
import pytest

from kit.errors import Unavailable
from tests.kit.http_server.serving import until
from tests.services.gateway.conftest import MESSAGES, MODEL
from tests.services.gateway.executors import delta, ended, started
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as pb


async def test_the_sdk_gets_a_stream(room: Any) -> None:
    async with room.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, stream=True)
        assert (raw.headers["x-request-id"], raw.headers["x-turnout-variant"]) == ("req_1", "mild")
        chunks = [chunk async for chunk in raw.parse()]

    assert {(chunk.id, chunk.object, chunk.model) for chunk in chunks} == {
        ("req_1", "chat.completion.chunk", "served-model")
    }
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    assert [chunk.choices[0].delta.content for chunk in chunks[1:-1]] == ["Par", "is."]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert (chunks[-1].turnout["variant"], chunks[-1].turnout["cost_usd"]) == ("mild", None)


async def test_a_stream_that_ends_well_is_read_to_its_end(room: Any) -> None:
    async with room.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
    # What the executor does after its last word is not cut off: else a good call would look like one that was left.
    await until(lambda: room.executor.ends)
    assert (room.executor.sent, room.executor.left) == (4, 0)


async def test_usage_comes_last_if_it_is_asked_for(room: Any) -> None:
    async with room.client() as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 32
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_the_sdks_own_helper_puts_the_pieces_together(room: Any) -> None:
    pieces = [
        pb.ToolCallDelta(index=0, id="call_1", tool="weather"),
        pb.ToolCallDelta(index=0, arguments_json='{"city":'),
        pb.ToolCallDelta(index=0, arguments_json='"Paris"}'),
        pb.ToolCallDelta(index=1, id="call_2", tool="time", arguments_json="{}"),
    ]
    room.executor.script = [
        started(),
        delta(reasoning="hm"),
        delta("Let me see."),
        *(delta(tool_calls=[piece]) for piece in pieces),
        ended(finish_reason=message_pb2.FINISH_REASON_UNSPECIFIED),
    ]
    async with room.client() as client, client.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
        completion = await stream.get_final_completion()
    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("Let me see.", "tool_calls")
    calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls]
    assert calls == [("call_1", "weather", '{"city":"Paris"}'), ("call_2", "time", "{}")]


async def test_the_wire_is_server_sent_events_that_nobody_may_keep(room: Any) -> None:
    body = orjson.dumps({"model": MODEL, "messages": MESSAGES, "stream": True})
    headers = {"Authorization": f"Bearer {room.key}"}
    async with room.http.post(f"{room.url}/v1/chat/completions", data=body, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
        text = await answer.text()
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    first, piece = (orjson.loads(event[6:]) for event in events[:2])
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert set(piece) == {"id", "object", "created", "model", "choices"}


async def test_pieces_arrive_while_the_model_still_writes(room: Any) -> None:
    gate = asyncio.Event()
    room.executor.script = [started(), delta("Par"), gate, delta("is."), ended()]
    async with room.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        chunks = aiter(stream)
        assert [(await anext(chunks)).choices[0].delta.content for _ in range(2)] == ["", "Par"]
        gate.set()
        assert [chunk.choices[0].delta.content async for chunk in chunks] == ["is.", None]


@pytest.mark.parametrize("error", [Unavailable("the provider broke", reason="STREAM_BROKEN"), None])
async def test_a_stream_that_breaks_says_so_and_has_no_good_end(room: Any, error: Any) -> None:
    room.executor.script = [started(), delta("Par"), *([error] if error else [])]
    async with room.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        chunks = aiter(stream)
        assert [(await anext(chunks)).choices[0].delta.content for _ in range(2)] == ["", "Par"]
        with pytest.raises(openai.APIError) as failure:
            await anext(chunks)
    assert failure.value.code == "stream_broken"

    body = orjson.dumps({"model": MODEL, "messages": MESSAGES, "stream": True})
    reader, writer = await asyncio.open_connection("127.0.0.1", room.listener.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
        % (room.key.encode(), len(body), body)
    )
    answer = await reader.read()
    writer.close()
    assert b'data: {"error":{' in answer
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_a_caller_who_leaves_a_stream_ends_the_call(room: Any) -> None:
    room.executor.script = [started(), delta("Par"), asyncio.Event()]
    async with room.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        assert (await anext(aiter(stream))).id == "req_1"
        await stream.close()
        await until(lambda: room.executor.left == 1)


async def test_a_caller_who_leaves_before_the_answer_ends_the_call(room: Any) -> None:
    room.executor.answer = asyncio.Event()
    room.executor.script = [asyncio.Event()]
    waiting = [asyncio.create_task(room.post(stream=stream)) for stream in (False, True)]
    await until(lambda: len(room.executor.requests) == 2)
    for task in waiting:
        task.cancel()
    await until(lambda: room.executor.left == 2)


async def test_a_caller_who_reads_slowly_slows_the_executor_down(room: Any) -> None:
    count, piece = 4000, "x" * 10_000
    room.executor.script = [started(), *(delta(piece) for _ in range(count)), ended()]
    body = orjson.dumps({"model": MODEL, "messages": MESSAGES, "stream": True})
    headers = {"Authorization": f"Bearer {room.key}"}
    async with room.http.post(f"{room.url}/v1/chat/completions", data=body, headers=headers) as answer:
        await answer.content.readline()
        seen = -1
        # Until it stands still: it waits for us.
        while room.executor.sent != seen:
            seen = room.executor.sent
            await asyncio.sleep(0.1)
        assert 0 < seen < count
        text = await answer.text()
    assert text.count(piece) == count
    assert text.endswith("data: [DONE]\n\n")
