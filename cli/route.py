"""`turnout route`: which variant a call would get."""

from __future__ import annotations

from typing import Annotated, Final

import grpc
import typer

from cli import contexts, decisions, names, output, proposals
from cli.client import Client, failures_for_people
from kit.errors import AppError
from turnout.registry.v1 import model_service_pb2, version_service_pb2
from turnout.registry.v1.model_service_pb2_grpc import ModelServiceStub
from turnout.registry.v1.version_service_pb2_grpc import VersionServiceStub
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1.routing_service_pb2_grpc import RoutingServiceStub

_NAMES_SECONDS: Final = 2.0
"""To find out what a variant runs: it is said beside the answer."""


def route(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="Its name, such as guide, or guide:staging with an alias.", autocompletion=proposals.targets
        ),
    ],
    context_given: contexts.Contexts = None,
    key: contexts.Key = "",
    identity: contexts.Identity = "",
    thread: contexts.Thread = "",
    user: contexts.User = "",
) -> None:
    """Show which variant a call would get, and why; nothing is run.

    It is decided as for `turnout run` with the same key and context. `turnout simulate` shows every step of it.

    Examples: turnout route guide --key user-42;
    turnout route guide:staging --context country=ES --context age=17;
    turnout route guide --context '{"country": "ES", "locale": ["es", "ca"]}' --user 42;
    turnout route guide -c @call.json
    """
    client: Client = context.obj
    request = pb.RouteRequest(
        deployment=names.target(client, deployment),
        routing_key=key,
        identity=identity,
        thread=thread,
        user=user,
        context_json=contexts.context_json(context_given or []),
    )
    with failures_for_people():
        answer = RoutingServiceStub(client.channel("router")).Route(request)
    if client.as_json:
        output.as_json(answer)
        return
    decision = answer.decision
    name = answer.variant_display_name
    output.facts(
        [
            ("variant", decision.variant_slug + (f" ({name})" if name not in ("", decision.variant_slug) else "")),
            ("why", decisions.why(decision)),
            ("propensity", f"{decisions.share(decision.propensity)} of random keys with this context get it"),
            ("sticks to", decisions.key(decision)),
            ("runs", _runs(client, answer)),
            ("revision", f"{decision.revision_number}, as {decision.alias} now"),
        ],
        fits=True,
    )


def _runs(client: Client, answer: pb.RouteResponse) -> str:
    """What the variant serves, by name as far as the key may know: to route, one need not read the registry."""
    uid = answer.version or answer.model
    parent = answer.variant.partition("/deployments/")[0]
    try:
        channel = client.channel("registry")
        if answer.HasField("model"):
            asked = model_service_pb2.GetModelRequest(name=f"{parent}/models/{uid}")
            model = ModelServiceStub(channel).GetModel(asked, timeout=_NAMES_SECONDS)
            return f"{model.display_name or f'model {model.number}'} ({uid})"
        request = version_service_pb2.GetVersionRequest(name=f"{parent}/versions/{uid}")
        version = VersionServiceStub(channel).GetVersion(request, timeout=_NAMES_SECONDS)
    except (grpc.RpcError, AppError):
        return uid
    return f"{version.provider}/{version.model} ({uid})"
