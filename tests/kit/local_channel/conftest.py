"""One laboratory for both ways to a servicer: the same scenario runs over TCP and over the local channel.

A scenario notes what it observes, on the caller's side and on the servicer's. What gRPC's transport adds of itself is
left out of the notes: `user-agent` in the request's metadata, the `Stream removed (…)` around details of statuses that
the transport makes, debug strings, and the text of `grpc.aio.InternalError`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from kit.local_channel import LocalChannel

Mode = Literal["tcp", "local"]
Behaviour = Callable[..., Any]
Connected = Callable[..., Any]

PATIENCE_SECONDS = 10.0
SERVICE = "test.Echo"
MAX_MESSAGE_BYTES = 32 * 1024
"""Small, so that what is too large still fits the network's buffers and no write is under way when it is refused."""

_WRAPPED = re.compile(r"^Stream removed \((.*)\)$")


@dataclass
class Record:
    """What was observed."""

    caller: list[object] = field(default_factory=list)
    servicer: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    responses: tuple[str, ...]
    raised: object
    code: grpc.StatusCode
    details: str
    initial_metadata: tuple[tuple[str, str | bytes], ...]
    trailing_metadata: tuple[tuple[str, str | bytes], ...]
    is_done: bool
    is_cancelled: bool


class Lab:
    """A caller and a servicer, and a way between them."""

    def __init__(self, channel: grpc.aio.Channel, behaviours: dict[str, Behaviour]) -> None:
        self.channel = channel
        self.record = Record()
        self._behaviours = behaviours

    def unary_unary(self, behaviour: Behaviour) -> Connected:
        return self._connect(self.channel.unary_unary, "UnaryUnary", behaviour)

    def unary_stream(self, behaviour: Behaviour) -> Connected:
        name = "UnaryStream" if inspect.isasyncgenfunction(behaviour) else "UnaryStreamByHand"
        return self._connect(self.channel.unary_stream, name, behaviour)

    def stream_unary(self, behaviour: Behaviour) -> Connected:
        return self._connect(self.channel.stream_unary, "StreamUnary", behaviour)

    def stream_stream(self, behaviour: Behaviour) -> Connected:
        name = "StreamStream" if inspect.isasyncgenfunction(behaviour) else "StreamStreamByHand"
        return self._connect(self.channel.stream_stream, name, behaviour)

    def _connect(self, kind: Callable[..., Any], name: str, behaviour: Behaviour) -> Connected:
        self._behaviours[name] = behaviour
        return self.method(kind, f"/{SERVICE}/{name}")

    def method(self, kind: Callable[..., Any], name: str) -> Connected:
        """The callable of any method, as generated stubs make it."""
        return kind(  # type: ignore[no-any-return]
            name,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
            _registered_method=True,
        )

    async def soon(self, waited: Awaitable[Any]) -> Any:
        """Wait, but not for ever."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await waited

    async def outcome(self, call: Any) -> Outcome:
        """Take a call to its end and note how it ended."""
        responses: list[str] = []
        raised: object = None
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                if hasattr(call, "__await__"):
                    responses.append((await call).value)
                else:
                    async for response in call:
                        responses.append(response.value)  # noqa: PERF401  # what came before an error counts
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                raised = self.described(error)
            outcome = Outcome(
                tuple(responses),
                raised,
                await call.code(),
                unwrapped(await call.details()),
                tuple(await call.initial_metadata()),
                tuple(await call.trailing_metadata()),
                call.done(),
                call.cancelled(),
            )
        self.record.caller.append(outcome)
        return outcome

    async def attempt(self, waited: Awaitable[Any]) -> object:
        """Note what comes of it: a message, another value, or what is raised; give it back."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                result = await waited
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                result = self.described(error)
        noted = result.value if isinstance(result, StringValue) else result
        if isinstance(noted, grpc.aio.Metadata):
            noted = tuple(noted)
        self.record.caller.append(noted)
        return noted

    def described(self, error: BaseException) -> object:
        """An exception in comparable form."""
        if isinstance(error, grpc.aio.AioRpcError):
            return (
                "AioRpcError",
                error.code(),
                unwrapped(error.details() or ""),
                tuple(error.initial_metadata()),
                tuple(error.trailing_metadata()),
            )
        if isinstance(error, grpc.aio.InternalError):
            return "InternalError"
        return (type(error).__name__, str(error))

    def note(self, *observed: object) -> None:
        """Note something on the caller's side."""
        self.record.caller.append(observed if len(observed) > 1 else observed[0])

    def saw(self, *observed: object) -> None:
        """Note something on the servicer's side."""
        self.record.servicer.append(observed if len(observed) > 1 else observed[0])

    def saw_metadata(self, context: Any) -> None:
        """Note what the servicer got, without what the transport adds."""
        self.saw(tuple((key, value) for key, value in context.invocation_metadata() if key != "user-agent"))


Scenario = Callable[[Lab], Awaitable[None]]
Play = Callable[[Scenario, Mode], Awaitable[Record]]


def unwrapped(details: str) -> str:
    """Status details without what gRPC's transport puts around those that it makes itself."""
    match = _WRAPPED.match(details)
    return match[1] if match else details


def handlers(behaviours: dict[str, Behaviour]) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """A servicer whose methods do what the scenario says."""

    async def unary(request: Any, context: Any) -> Any:
        return await behaviours["UnaryUnary"](request, context)

    async def unary_stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in behaviours["UnaryStream"](request, context):
            yield response

    async def unary_stream_by_hand(request: Any, context: Any) -> None:
        await behaviours["UnaryStreamByHand"](request, context)

    async def stream_unary(requests: Any, context: Any) -> Any:
        return await behaviours["StreamUnary"](requests, context)

    async def stream_stream(requests: Any, context: Any) -> AsyncIterator[Any]:
        async for response in behaviours["StreamStream"](requests, context):
            yield response

    async def stream_stream_by_hand(requests: Any, context: Any) -> None:
        await behaviours["StreamStreamByHand"](requests, context)

    codec: dict[str, Any] = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    methods: dict[str, Any] = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(unary, **codec),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(unary_stream, **codec),
        "UnaryStreamByHand": grpc.unary_stream_rpc_method_handler(unary_stream_by_hand, **codec),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(stream_unary, **codec),
        "StreamStream": grpc.stream_stream_rpc_method_handler(stream_stream, **codec),
        "StreamStreamByHand": grpc.stream_stream_rpc_method_handler(stream_stream_by_hand, **codec),
    }
    return methods


@asynccontextmanager
async def open_lab(mode: Mode) -> AsyncIterator[Lab]:
    """A laboratory; when it closes, nothing of the scenario may be left running."""
    behaviours: dict[str, Behaviour] = {}
    methods = handlers(behaviours)
    if mode == "local":
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        before = asyncio.all_tasks()
        by_full_name = {f"/{SERVICE}/{name}": handler for name, handler in methods.items()}
        async with LocalChannel(by_full_name.get, max_message_bytes=MAX_MESSAGE_BYTES) as channel:
            yield Lab(channel, behaviours)
        assert not channel.live
        # Async generators that a scenario drops are closed by tasks of the loop's own, some turns later.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while asyncio.all_tasks() - before - {asyncio.current_task()}:
                await asyncio.sleep(0)
        asyncio.get_running_loop().set_exception_handler(None)
        assert complaints == []
    else:
        options = (("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),)
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as network:
            yield Lab(network, behaviours)
        await server.stop(None)


@pytest.fixture(scope="session")
def records() -> dict[tuple[Scenario, Mode], Record]:
    """What was observed in this run of the tests."""
    return {}


@pytest.fixture
def play(records: dict[tuple[Scenario, Mode], Record]) -> Play:
    """Runs a scenario in a mode and gives what it observed."""

    async def run(scenario: Scenario, mode: Mode) -> Record:
        async with open_lab(mode) as lab:
            await scenario(lab)
        records[scenario, mode] = lab.record
        return lab.record

    return run


@pytest.fixture
def observed(records: dict[tuple[Scenario, Mode], Record], play: Play) -> Play:
    """What a scenario observed in a mode; runs it unless another test has."""

    async def look(scenario: Scenario, mode: Mode) -> Record:
        return records.get((scenario, mode)) or await play(scenario, mode)

    return look


@pytest.fixture
def connect() -> Callable[[Mode], AbstractAsyncContextManager[Lab]]:
    """Opens a laboratory, for tests that are no scenario."""
    return open_lab
