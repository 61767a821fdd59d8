"""Calls."""

from __future__ import annotations

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
from completions.version import Version
from kit.errors import Invalid, Violation
from services.executor.domain import Overrides, RunCall, Source, Unread
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

    :raises Invalid: `INVALID_REQUEST` unless it names either a deployment or a configuration
    """
    if bool(request.deployment) == request.HasField("direct"):
        problem = Violation("deployment", "must be given, or direct instead of it, and not both")
        raise Invalid(f"{problem.field} {problem.message}", reason="INVALID_REQUEST", violations=(problem,))
    return RunCall(
        deployment=request.deployment,
        variables_json=request.variables_json,
        messages=tuple([message_from_proto(message) for message in request.messages]),
        routing_key=request.routing_key,
        identity=request.identity.id,
        thread=request.thread,
        user=request.user,
        metadata_json=request.metadata_json,
        caller_trace_id=request.trace_id,
        source=SOURCES.get(request.source) or (Source.SDK if SDK_MARK in user_agent else Source.API),
        tenant=tenant,
        key_id=key_id,
        trace_id=trace_id,
        span_id=span_id,
        is_sampled=is_sampled,
        deadline=deadline,
        is_streamed=is_streamed,
        prefix_messages=tuple([message_from_proto(message) for message in request.prefix_messages]),
        overrides=_unread(request.overrides) if request.HasField("overrides") else None,
        direct=partial(_direct, request) if request.HasField("direct") else None,
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
    return version_from_proto(request.direct, field="direct")
