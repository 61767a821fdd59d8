"""`turnout run`: call a deployment."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli import output
from cli.client import Client, failures_for_people
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub


def run(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(help="The target: name, name:alias, uid or resource name.")],
    message: Annotated[str, typer.Argument(help="What the user says. Empty: nothing.")] = "",
    variable: Annotated[
        list[str] | None,
        typer.Option("--variable", "-v", help="name=value; repeat for several. JSON values are read as such."),
    ] = None,
    routing_key: Annotated[str, typer.Option(help="What the choice of variant sticks to, such as a user's id.")] = "",
    timeout_seconds: Annotated[float, typer.Option(min=0.001, help="How long to wait.")] = 120.0,
) -> None:
    """Call a deployment and print the answer; which variant served goes to standard error.

    Example: turnout run travel-assistant -v country=France -v language=English "Any customs at the dinner table?"
    """
    client: Client = context.obj
    request = pb.RunRequest(
        deployment=deployment, variables_json=json.dumps(_variables(variable or [])), routing_key=routing_key
    )
    if message:
        request.messages.add(role=message_pb2.ROLE_USER, content=message)
    with failures_for_people():
        answer = ExecutionServiceStub(client.channel("executor")).Run(request, timeout=timeout_seconds)
    if client.as_json:
        output.as_json(answer)
        return
    print(answer.message.content)
    cost = output.micros(answer.cost_usd_micros) if answer.HasField("cost_usd_micros") else "unknown cost"
    output.errors.print(
        f"— variant {answer.decision.variant_slug} of revision {answer.decision.revision_number}, "
        f"{answer.provider}/{answer.model}, {answer.usage.input_tokens}+{answer.usage.output_tokens} tokens, {cost}, "
        f"{output.milliseconds(answer.latency_us)}, {answer.request_id}",
        style="dim",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _variables(pairs: list[str]) -> dict[str, object]:
    variables: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"a variable is written name=value, not {pair!r}")
        try:
            variables[name] = json.loads(value)
        except ValueError:
            variables[name] = value
    return variables
