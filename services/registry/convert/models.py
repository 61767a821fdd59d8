"""Trained models."""

from __future__ import annotations

from kit.json import parse_object
from services.registry.convert.text import time_to_proto
from services.registry.domain import Model, ModelFacts
from turnout.registry.v1 import model_pb2 as pb


def model_facts(model: pb.Model) -> ModelFacts:
    """What RegisterModel is given.

    :raises Invalid: for JSON that is no object
    """
    for name in ("parameters_json", "metrics_json"):
        parse_object(getattr(model, name), field=f"model.{name}")
    return ModelFacts(
        display_name=model.display_name,
        description=model.description,
        digest=model.digest,
        algorithm=model.algorithm,
        parameters_json=model.parameters_json,
        metrics_json=model.metrics_json,
        user_count=model.user_count,
        item_count=model.item_count,
        interaction_count=model.interaction_count,
        size_bytes=model.size_bytes,
    )


def model_to_proto(model: Model) -> pb.Model:
    """As callers see it."""
    facts = model.facts
    return pb.Model(
        name=model.name,
        uid=model.uid,
        number=model.number,
        display_name=facts.display_name,
        description=facts.description,
        digest=facts.digest,
        algorithm=facts.algorithm,
        parameters_json=facts.parameters_json,
        metrics_json=facts.metrics_json,
        user_count=facts.user_count,
        item_count=facts.item_count,
        interaction_count=facts.interaction_count,
        size_bytes=facts.size_bytes,
        create_time=time_to_proto(model.record.created_at),
        creator=model.creator,
        archived=model.archived_at is not None,
    )
