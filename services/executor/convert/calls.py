"""Calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from catalog.configurations import (
    message_from_proto,
    object_from_text,
    parameters_from_proto,
    tool_choice_from_text,
    tools_from_text,
    version_from_proto,
)
from completions.chat import Message, Role, faults_of
from completions.version import Version
from kit.errors import Invalid, Violation
from services.executor.domain import Overrides, RunCall, Source, Unread
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_pb2, execution_service_pb2

SDK_MARK: Final = "turnout-"
"""Turnout's own client libraries name themselves `turnout-<language>/<version>` in the user agent."""

SOURCES: Final = {execution_pb2.SOURCE_API: Source.API, execution_pb2.SOURCE_SDK: Source.SDK}


def run_call_from_proto(
    request: execution_service_pb2.RunRequest,
    *,
    user_agent: str,
    tenant: str,
    key_id: str,
    trace_id: str,
    deadline: float,
    span_id: str = "0" * 16,
    is_sampled: bool = False,
    is_streamed: bool = False,
) -> RunCall:
    """A call and who makes it.

    :raises Invalid: `INVALID_REQUEST` unless it names either a deployment or a configuration; for overrides of the
        latter, a source that callers do not have, and messages that no provider could take
    """
    is_direct, lays_over = request.HasField("direct"), request.HasField("overrides")
    if bool(request.deployment) == is_direct:
        raise _refused(Violation("deployment", "must be given, or direct instead of it, and not both"))
    if is_direct and lays_over:
        raise _refused(Violation("overrides", "must be left out where direct is given: write them into direct itself"))
    messages = tuple(map(message_from_proto, request.messages))
    _refuse_faulty(messages, "messages")
    return RunCall(
        deployment=request.deployment,
        variables_json=request.variables_json,
        messages=messages,
        routing_key=request.routing_key,
        identity=request.identity.id,
        thread=request.thread,
        user=request.user,
        metadata_json=request.metadata_json,
        caller_trace_id=request.trace_id,
        source=SOURCES.get(request.source) or _source(request.source, user_agent),
        tenant=tenant,
        key_id=key_id,
        trace_id=trace_id,
        span_id=span_id,
        is_sampled=is_sampled,
        deadline=deadline,
        is_streamed=is_streamed,
        prefix_messages=_prefix(request.prefix_messages) if request.prefix_messages else (),
        overrides=_unread(request.overrides) if lays_over else None,
        direct=partial(_direct, request) if is_direct else None,
        mock_response=request.mock_response,
        context_json=request.context_json,
    )


def _unread(given: execution_service_pb2.Overrides) -> Unread:
    return Unread(given.SerializeToString(deterministic=True), partial(_overrides, given))


def _overrides(given: execution_service_pb2.Overrides) -> Overrides:
    return Overrides(
        parameters=parameters_from_proto(given.parameters, field="overrides.parameters")
        if given.HasField("parameters")
        else None,
        tools=tools_from_text(given.tools_json, field="overrides.tools_json"),
        tool_choice=tool_choice_from_text(given.tool_choice_json, field="overrides.tool_choice_json"),
        response_format=object_from_text(given.response_format_json, field="overrides.response_format_json"),
    )


def _direct(request: execution_service_pb2.RunRequest) -> Version:
    version = version_from_proto(request.direct, field="direct")
    # With variables its messages are templates, which are judged as such.
    _refuse_faulty(version.messages, "direct.messages", are_templates=bool(request.variables_json))
    return version


def _prefix(given: Iterable[message_pb2.Message]) -> tuple[Message, ...]:
    read = tuple(map(message_from_proto, given))
    _refuse_faulty(read, "prefix_messages")
    return read


def _refuse_faulty(messages: Sequence[Message], path: str, *, are_templates: bool = False) -> None:
    for index, message in enumerate(messages):
        if message.parts or message.tool_calls or message.role is Role.TOOL:
            for below, wrong in faults_of(message, is_template=are_templates):
                in_proto = f"{below[:-3]}image.url" if below.endswith("].url") else below
                raise _refused(Violation(f"{path}[{index}].{in_proto}", wrong))


def _source(given: int, user_agent: str) -> Source:
    if given == execution_pb2.SOURCE_SIMULATOR:
        raise _refused(Violation("source", "must be api or sdk, or be left out: simulator is the router's own"))
    return Source.SDK if SDK_MARK in user_agent else Source.API


def _refused(problem: Violation) -> Invalid:
    return Invalid(f"{problem.field} {problem.message}", reason="INVALID_REQUEST", violations=(problem,))
