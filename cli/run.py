"""`turnout run`: call a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import contexts, names, output, proposals, ranges
from cli.client import Client, failures_for_people
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub


def run(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="Its name, such as guide, or guide:staging with an alias.", autocompletion=proposals.targets
        ),
    ],
    message: Annotated[str, typer.Argument(help="What the user says. Empty: nothing.")] = "",
    variable: Annotated[
        list[str] | None,
        typer.Option(
            "--variable",
            "-v",
            help="name=value; repeat for several. A value that is JSON is taken as such, all else as text: "
            "zip=75001 is a number, 'zip=\"75001\"' a text.",
        ),
    ] = None,
    context_given: contexts.Contexts = None,
    routing_key: contexts.Key = "",
    timeout_seconds: ranges.TimeoutSeconds = 120.0,
) -> None:
    """Call a deployment and print the answer; which variant served goes to standard error.

    Examples: turnout run travel-assistant -v country=France -v language=English "Any customs at the dinner table?";
    turnout run guide --context country=ES --key user-42 "Hola"
    """
    client: Client = context.obj
    request = pb.RunRequest(
        deployment=names.target(client, deployment),
        variables_json=contexts.variables_json(variable or []),
        routing_key=routing_key,
        context_json=contexts.context_json(context_given or []),
    )
    if message:
        request.messages.add(role=message_pb2.ROLE_USER, content=message)
    with failures_for_people():
        answer = ExecutionServiceStub(client.channel("executor")).Run(request, timeout=timeout_seconds)
    if client.as_json:
        output.as_json(answer)
        return
    output.answer(answer.message.content)
    cost = output.micros(answer.cost_usd_micros) if answer.HasField("cost_usd_micros") else "unknown cost"
    output.aside(
        f"— variant {answer.decision.variant_slug} of revision {answer.decision.revision_number}, "
        f"{answer.provider}/{answer.model}, {answer.usage.input_tokens}+{answer.usage.output_tokens} tokens, {cost}, "
        f"{output.milliseconds(answer.latency_us)}, {answer.request_id}"
    )
