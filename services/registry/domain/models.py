"""Trained recommenders. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.registry.domain.access import Project, Record


@dataclass(frozen=True, slots=True)
class Model:
    """A trained recommender, named by its artifact."""

    uid: str
    project: Project
    number: int
    facts: ModelFacts
    creator: str
    record: Record
    archived_at: datetime | None = None

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/models/{self.uid}"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a trained model when it is registered."""

    display_name: str
    description: str
    digest: str
    algorithm: str
    parameters_json: str
    metrics_json: str
    user_count: int
    item_count: int
    interaction_count: int
    size_bytes: int
