"""What the registry owns, and the rules that need nothing but the thing itself. Pure."""

from __future__ import annotations

from typing import TypeAlias

from services.registry.domain.access import (
    PLATFORM,
    PLATFORM_ADMIN,
    Caller,
    Project,
    ProjectDraft,
    Record,
    changed_since,
    check_slug,
    exists,
    key_name,
    missing,
    violated,
)
from services.registry.domain.deployments import (
    LIVE,
    MAX_VARIANTS,
    Alias,
    Bump,
    Completion,
    Deployment,
    DeploymentKind,
    Recommendation,
    Revision,
    Serving,
    UnknownUsers,
    Variant,
    bump_of,
    warnings,
)
from services.registry.domain.differences import Difference, DifferenceKind, differences
from services.registry.domain.drafts import (
    CompletionDraft,
    DeploymentChange,
    DeploymentDraft,
    RecommendationDraft,
    ServingDraft,
    VariantChange,
    VariantDraft,
    default_weight,
    variant_slug,
)
from services.registry.domain.keys import ApiKey, ApiKeyDraft
from services.registry.domain.models import Model, ModelFacts
from services.registry.domain.providers import (
    OPENAI_URL,
    Provider,
    ProviderChange,
    ProviderDraft,
    ProviderKind,
    Version,
    base_url,
    check_credential,
)

Thing: TypeAlias = Project | Provider | Version | Deployment | Model | ApiKey
"""What the catalog tells of."""

__all__ = [
    "LIVE",
    "MAX_VARIANTS",
    "OPENAI_URL",
    "PLATFORM",
    "PLATFORM_ADMIN",
    "Alias",
    "ApiKey",
    "ApiKeyDraft",
    "Bump",
    "Caller",
    "Completion",
    "CompletionDraft",
    "Deployment",
    "DeploymentChange",
    "DeploymentDraft",
    "DeploymentKind",
    "Difference",
    "DifferenceKind",
    "Model",
    "ModelFacts",
    "Project",
    "ProjectDraft",
    "Provider",
    "ProviderChange",
    "ProviderDraft",
    "ProviderKind",
    "Recommendation",
    "RecommendationDraft",
    "Record",
    "Revision",
    "Serving",
    "ServingDraft",
    "Thing",
    "UnknownUsers",
    "Variant",
    "VariantChange",
    "VariantDraft",
    "Version",
    "base_url",
    "bump_of",
    "changed_since",
    "check_credential",
    "check_slug",
    "default_weight",
    "differences",
    "exists",
    "key_name",
    "missing",
    "variant_slug",
    "violated",
    "warnings",
]
