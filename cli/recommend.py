"""`turnout recommend`: items for a user."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import contexts, names, output, proposals
from cli.client import Client, failures_for_people
from turnout.inference.v1 import recommendation_service_pb2 as pb
from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceStub


def recommend(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="Its name, such as movies, or movies:staging with an alias.", autocompletion=proposals.targets
        ),
    ],
    user: Annotated[str, typer.Argument(help="Whom for, as the training data name them.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items the user knows already, too.")] = False,
    context_given: contexts.Contexts = None,
) -> None:
    """Show what a deployment recommends to a user; which variant served goes to standard error.

    Examples: turnout recommend movies 42 -n 5; turnout recommend movies 42 --context device=tv
    """
    client: Client = context.obj
    request = pb.RecommendRequest(
        deployment=names.target(client, deployment),
        user_id=user,
        limit=limit,
        include_seen=include_seen,
        context_json=contexts.context_json(context_given or []),
    )
    with failures_for_people():
        answer = RecommendationServiceStub(client.channel("inference")).Recommend(request)
    if client.as_json:
        output.as_json(answer)
        return
    output.table(
        ["", "item", "title", "score"],
        [(rank, item.item_id, item.title, f"{item.score:.4g}") for rank, item in enumerate(answer.items, start=1)],
        numbers=["", "score"],
    )
    cold = "; the user is unknown: these are the most popular items" if answer.cold_start else ""
    output.aside(
        f"{answer.decision.variant_slug} with model {answer.model_number}, "
        f"{output.milliseconds(answer.latency_us)}{cold}"
    )
