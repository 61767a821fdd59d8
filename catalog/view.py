"""The catalog as this process knows it: immutable, so that a call sees one state of the world from start to end.

A change makes a new view that shares all that did not change. Versions stay packed, as they came: what a variant costs
in memory must not depend on whether anybody calls it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from catalog.routing import WEIGHTS_ALONE, Routing
from catalog.sharded import Sharded


class DeploymentKind(StrEnum):
    """What a deployment answers."""

    COMPLETION = "completion"
    RECOMMENDATION = "recommendation"


class UnknownUsers(StrEnum):
    """What a recommender answers users that it was not trained with."""

    POPULAR = "popular"
    REFUSE = "refuse"


class ProviderKind(StrEnum):
    """Which wire contract a provider speaks."""

    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant."""

    uid: str
    number: int
    slug: str


class OutputPolicy(StrEnum):
    """What becomes of an answer that does not keep to its JSON schema."""

    MARK = "mark"
    RETRY = "retry"
    FAIL = "fail"


class StructuredOutput(StrEnum):
    """What a model takes of a version's response format; the rest is told in words."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model of one provider, before the price table; None and 0 are the table's."""

    input_usd_micros_per_million: int | None
    """The price of a million tokens, in millionths of a US dollar."""
    cached_input_usd_micros_per_million: int | None
    output_usd_micros_per_million: int | None
    context_window_tokens: int
    structured_output: StructuredOutput = StructuredOutput.JSON_SCHEMA


@dataclass(frozen=True, slots=True)
class Provider:
    """A place that runs LLMs."""

    uid: str
    project: str
    slug: str
    kind: ProviderKind
    base_url: str
    model_facts: Mapping[str, ModelFacts] = field(default_factory=lambda: MappingProxyType({}))
    """By the provider's name for a model."""
    max_concurrent_calls: int = 0
    """Of one process; 0 is the executor's setting."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A provider's credential, encrypted."""

    provider: str
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Version:
    """A completion configuration, packed as a serialised `turnout.registry.v1.Version` whose provider is a uid."""

    project: str
    uid: str
    packed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fallback:
    """Where a completion runs when it cannot run where it should."""

    provider: str
    """uid."""
    model: str
    parameters: bytes | None = field(repr=False)
    """A serialised `turnout.registry.v1.Parameters`; None: the version's own."""
    max_retries: int
    attempt_timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class Completion:
    """A version and how hard to try."""

    version: str
    max_retries: int
    attempt_timeout_seconds: float | None
    fallbacks: tuple[Fallback, ...] = ()
    retry_statuses: frozenset[int] = frozenset()
    """HTTP statuses after which an attempt may be repeated; empty: the usual."""
    first_token_timeout_seconds: float | None = None
    """The silence before a streamed answer; None: as `attempt_timeout_seconds`. The next likewise within one."""
    idle_timeout_seconds: float | None = None
    output_policy: OutputPolicy = OutputPolicy.MARK


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A trained model, by uid, and what it answers strangers."""

    model: str
    unknown_users: UnknownUsers


Serving: TypeAlias = Completion | Recommendation


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve a deployment."""

    uid: str
    number: int
    slug: str
    display_name: str
    active: bool
    weight: float
    serving: Serving
    """Of the deployment's kind."""


def shares_of(candidates: Sequence[tuple[Variant, float]]) -> dict[str, float]:
    """What part each variant has of the weights of all, by uid.

    :param candidates: with weights above 0
    """
    weights: dict[str, list[float]] = {}
    for variant, weight in candidates:
        weights.setdefault(variant.uid, []).append(weight)
    # Rounded once, so that every version of Python comes to the same number: what is logged is compared with it.
    total = math.fsum([weight for _, weight in candidates])
    return {uid: math.fsum(own) / total for uid, own in weights.items()}


@dataclass(frozen=True, slots=True)
class Revision:
    """A snapshot of a deployment."""

    uid: str
    number: str
    salt: str
    variants: tuple[Variant, ...]
    routing: Routing = WEIGHTS_ALONE
    candidates: tuple[tuple[Variant, float], ...] = field(init=False, repr=False, compare=False)
    """Who takes part where no rule matches, with their weights: active, and above 0."""
    shares: Mapping[str, float] = field(init=False, repr=False, compare=False)
    """Each candidate's part of their weights, by uid."""

    def __post_init__(self) -> None:
        candidates = tuple([(each, each.weight) for each in self.variants if each.active and each.weight > 0])
        # Here, because every call asks for them.
        object.__setattr__(self, "candidates", candidates)
        object.__setattr__(self, "shares", shares_of(candidates))


@dataclass(frozen=True, slots=True)
class Contract:
    """What callers of an alias rely on, as JSON text: parsed when somebody calls it."""

    variables_schema_json: str
    """Empty without variables."""
    response_format_json: str
    """Empty for text."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A stable name and the revisions that its aliases point to."""

    uid: str
    project: str
    slug: str
    kind: DeploymentKind
    aliases: Mapping[str, Revision]
    contracts: Mapping[str, Contract] = field(default_factory=lambda: MappingProxyType({}))
    """By alias; of those that hold one."""


@dataclass(frozen=True, slots=True)
class Model:
    """A trained recommender."""

    uid: str
    project: str
    number: int
    digest: str
    """Names its artifact: 64 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may call. `project` is empty for platform and service keys."""

    uid: str
    project: str
    secret_hash: bytes = field(repr=False)
    scopes: frozenset[str]
    expire_time_ms: int
    requests_per_minute: int = 0
    """0 is no bound."""


Thing: TypeAlias = Project | Provider | Credential | Version | Deployment | Model | ApiKey


Change: TypeAlias = tuple[str, Thing | None]
"""A catalog key and what it holds from now on; None means that it is gone."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything, as of one sequence of the registry's change log. Never changed in place."""

    sequence: int = 0
    things: Sharded[str, Thing] = field(default_factory=Sharded)
    """By catalog key, such as `deployment/dep_…`."""
    names: Sharded[tuple[str, str], Project | Provider | Deployment] = field(default_factory=Sharded)
    """Deployments by (project uid, slug), providers by (project uid, "providers/slug"), and projects by ("", slug)
    and ("", number)."""
    providers: Sharded[str, tuple[str, ...]] = field(default_factory=Sharded)
    """The uids of each project's providers, by its uid."""

    def with_changes(self, sequence: int, changes: Iterable[Change]) -> View:
        """The view after a transaction."""
        things, names, providers = self.things.edit(), self.names.edit(), self.providers.edit()
        for key, thing in changes:
            before = things.pop(key)
            if isinstance(before, _NAMED):
                for name in _names(before):
                    names.pop(name)
            if isinstance(before, Provider):
                others = providers.pop(before.project) or ()
                providers[before.project] = tuple(uid for uid in others if uid != before.uid)
            if isinstance(thing, Provider):
                providers[thing.project] = (*(providers.pop(thing.project) or ()), thing.uid)
            if thing is not None:
                things[key] = thing
                if isinstance(thing, _NAMED):
                    for name in _names(thing):
                        names[name] = thing
        return View(sequence, things.done(), names.done(), providers.done())

    def project(self, uid: str) -> Project | None:
        """By uid."""
        found = self.things.get(f"project/{uid}")
        return found if isinstance(found, Project) else None

    def project_named(self, name: str) -> Project | None:
        """By slug or number."""
        found = self.names.get(("", name))
        return found if isinstance(found, Project) else None

    def deployment(self, uid: str) -> Deployment | None:
        """By uid."""
        found = self.things.get(f"deployment/{uid}")
        return found if isinstance(found, Deployment) else None

    def deployment_named(self, project: str, slug: str) -> Deployment | None:
        """By project uid and slug."""
        found = self.names.get((project, slug))
        return found if isinstance(found, Deployment) else None

    def version(self, project: str, uid: str) -> Version | None:
        """By project uid and uid: equal content in two projects is two versions."""
        found = self.things.get(f"version/{project}/{uid}")
        return found if isinstance(found, Version) else None

    def provider(self, uid: str) -> Provider | None:
        """By uid."""
        found = self.things.get(f"provider/{uid}")
        return found if isinstance(found, Provider) else None

    def provider_named(self, project: str, slug: str) -> Provider | None:
        """By project uid and slug."""
        found = self.names.get((project, f"providers/{slug}"))
        return found if isinstance(found, Provider) else None

    def only_provider(self, project: str) -> Provider | None:
        """The provider of a project that has a single one."""
        uids = self.providers.get(project, ())
        return self.provider(uids[0]) if len(uids) == 1 else None

    def credential(self, provider: str) -> Credential | None:
        """By the provider's uid."""
        found = self.things.get(f"credential/{provider}")
        return found if isinstance(found, Credential) else None

    def model(self, uid: str) -> Model | None:
        """By uid."""
        found = self.things.get(f"model/{uid}")
        return found if isinstance(found, Model) else None

    def api_key(self, uid: str) -> ApiKey | None:
        """By the 12 characters inside the key."""
        found = self.things.get(f"api_key/{uid}")
        return found if isinstance(found, ApiKey) else None


_NAMED = (Project, Provider, Deployment)


def _names(thing: Project | Provider | Deployment) -> tuple[tuple[str, str], ...]:
    if isinstance(thing, Project):
        # No slug has digits alone.
        return ("", thing.slug), ("", str(thing.number))
    # Slugs hold no slash, so providers and deployments never meet.
    return ((thing.project, f"providers/{thing.slug}" if isinstance(thing, Provider) else thing.slug),)
