"""Catalog messages to the view's own types, and decisions made from it to the contract."""

from __future__ import annotations

from types import MappingProxyType

from catalog.conditions import Field, FieldKind
from catalog.plan import Decision, Evaluation, KeyKind, Refusal
from catalog.routing import WEIGHTS_ALONE, Routing, Rule, Share
from catalog.targets import Target
from catalog.view import (
    ApiKey,
    Change,
    Completion,
    Contract,
    Credential,
    Deployment,
    DeploymentKind,
    Fallback,
    Model,
    ModelFacts,
    OutputPolicy,
    Project,
    Provider,
    ProviderKind,
    Recommendation,
    Revision,
    Serving,
    StructuredOutput,
    Thing,
    UnknownUsers,
    Variant,
    Version,
)
from turnout.registry.v1 import catalog_pb2 as pb
from turnout.registry.v1 import deployment_pb2, provider_pb2, routing_pb2
from turnout.router.v1 import decision_pb2

PROVIDER_KINDS = {
    provider_pb2.PROVIDER_KIND_OPENAI: ProviderKind.OPENAI,
    provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE: ProviderKind.OPENAI_COMPATIBLE,
    provider_pb2.PROVIDER_KIND_ANTHROPIC: ProviderKind.ANTHROPIC,
    provider_pb2.PROVIDER_KIND_OLLAMA: ProviderKind.OLLAMA,
}
DEPLOYMENT_KINDS = {
    deployment_pb2.DEPLOYMENT_KIND_COMPLETION: DeploymentKind.COMPLETION,
    deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION: DeploymentKind.RECOMMENDATION,
}
UNKNOWN_USERS = {
    deployment_pb2.UNKNOWN_USERS_POPULAR: UnknownUsers.POPULAR,
    deployment_pb2.UNKNOWN_USERS_REFUSE: UnknownUsers.REFUSE,
}

OUTPUT_POLICIES = {
    deployment_pb2.OUTPUT_POLICY_MARK: OutputPolicy.MARK,
    deployment_pb2.OUTPUT_POLICY_RETRY: OutputPolicy.RETRY,
    deployment_pb2.OUTPUT_POLICY_FAIL: OutputPolicy.FAIL,
}
_NO_FACTS: MappingProxyType[str, ModelFacts] = MappingProxyType({})
_NO_CONTRACTS: MappingProxyType[str, Contract] = MappingProxyType({})
DEPLOYMENT_KINDS_TO_PROTO = {kind: number for number, kind in DEPLOYMENT_KINDS.items()}
FIELD_KINDS = {
    routing_pb2.FIELD_KIND_STRING: FieldKind.STRING,
    routing_pb2.FIELD_KIND_NUMBER: FieldKind.NUMBER,
    routing_pb2.FIELD_KIND_BOOLEAN: FieldKind.BOOLEAN,
    routing_pb2.FIELD_KIND_DATE: FieldKind.DATE,
    routing_pb2.FIELD_KIND_LIST: FieldKind.LIST,
}
_STRUCTURED_OUTPUTS = {
    provider_pb2.STRUCTURED_OUTPUT_JSON_OBJECT: StructuredOutput.JSON_OBJECT,
    provider_pb2.STRUCTURED_OUTPUT_TEXT: StructuredOutput.TEXT,
}
_WHOLE = 100.0
"""The weight of a variant that is all of a split."""
_EVALUATIONS = {
    Evaluation.MATCHED: decision_pb2.EVALUATION_MATCHED,
    Evaluation.DEFAULT_MATCHED: decision_pb2.EVALUATION_DEFAULT_MATCHED,
}
_KEY_KINDS = {
    KeyKind.ROUTING_KEY: decision_pb2.KEY_KIND_ROUTING_KEY,
    KeyKind.IDENTITY: decision_pb2.KEY_KIND_IDENTITY,
    KeyKind.THREAD: decision_pb2.KEY_KIND_THREAD,
    KeyKind.USER: decision_pb2.KEY_KIND_USER,
    KeyKind.REQUEST: decision_pb2.KEY_KIND_REQUEST,
}


def fill_decision(proto: decision_pb2.Decision, decision: Decision) -> None:
    """Write a decision into a message in its place: one made apart would be copied when it is set."""
    _fill_target(proto, decision.target)
    _fill_evaluation(proto, decision)
    proto.variant, proto.variant_slug = decision.variant.uid, decision.variant.slug
    proto.propensity = decision.propensity


def fill_undecided(proto: decision_pb2.Decision, target: Target, refusal: Refusal | None) -> None:
    """Write of a call that was assigned no variant what is known: what was called and, if nothing was active, how that
    came out. In its place, as :func:`fill_decision`.

    :param refusal: None if the call failed before it was decided
    """
    _fill_target(proto, target)
    if refusal is not None:
        _fill_evaluation(proto, refusal)


def _fill_target(proto: decision_pb2.Decision, target: Target) -> None:
    proto.deployment = target.deployment.uid
    proto.alias = target.alias
    proto.revision = target.revision.uid
    proto.revision_number = target.revision.number


def _fill_evaluation(proto: decision_pb2.Decision, found: Decision | Refusal) -> None:
    proto.evaluation = _EVALUATIONS[found.evaluation]
    proto.key_kind = _KEY_KINDS[found.key_kind]
    if (rule := found.rule) is not None:
        proto.rule, proto.rule_name = rule.uid, rule.display_name
    if found.outside_coverage:
        proto.outside_coverage = True


def change_from_proto(entry: pb.CatalogEntry) -> Change:
    """One entry. What this code does not know yet is as good as absent: newer registries may send more."""
    return entry.key, _thing(entry)


def _thing(entry: pb.CatalogEntry) -> Thing | None:
    match entry.WhichOneof("value"):
        case "project":
            return Project(entry.project.uid, entry.project.number, entry.project.slug)
        case "provider":
            return _provider(entry.provider)
        case "credential":
            return Credential(entry.credential.provider, entry.credential.envelope)
        case "version":
            version = entry.version.version
            return Version(entry.version.project, version.uid, version.SerializeToString())
        case "deployment":
            return _deployment(entry.deployment)
        case "model":
            return Model(entry.model.uid, entry.model.project, entry.model.number, entry.model.digest)
        case "api_key":
            return _api_key(entry.api_key)
    return None


def _provider(provider: pb.CatalogProvider) -> Provider | None:
    kind = PROVIDER_KINDS.get(provider.kind)
    if kind is None:
        return None
    facts = {each.model: _model_facts(each) for each in provider.model_facts}
    return Provider(
        provider.uid,
        provider.project,
        provider.slug,
        kind,
        provider.base_url,
        MappingProxyType(facts) if facts else _NO_FACTS,
        provider.max_concurrent_calls,
    )


def _model_facts(facts: provider_pb2.ModelFacts) -> ModelFacts:
    given = {descriptor.name: value for descriptor, value in facts.ListFields()}
    return ModelFacts(
        given.get("input_usd_micros_per_million"),
        given.get("cached_input_usd_micros_per_million"),
        given.get("output_usd_micros_per_million"),
        facts.context_window_tokens,
        _STRUCTURED_OUTPUTS.get(facts.structured_output, StructuredOutput.JSON_SCHEMA),
    )


def _api_key(key: pb.CatalogApiKey) -> ApiKey:
    return ApiKey(
        key.uid, key.project, key.secret_hash, frozenset(key.scopes), key.expire_time_ms, key.requests_per_minute
    )


def _deployment(deployment: pb.CatalogDeployment) -> Deployment | None:
    kind = DEPLOYMENT_KINDS.get(deployment.kind)
    if kind is None:
        return None
    revisions = {revision.uid: _revision(revision) for revision in deployment.revisions}
    aliases = {alias.alias: revisions[alias.revision] for alias in deployment.aliases if alias.revision in revisions}
    contracts = {
        alias.alias: Contract(alias.contract.variables_schema_json, alias.contract.response_format_json)
        for alias in deployment.aliases
        if alias.HasField("contract")
    }
    return Deployment(
        deployment.uid,
        deployment.project,
        deployment.slug,
        kind,
        MappingProxyType(aliases),
        MappingProxyType(contracts) if contracts else _NO_CONTRACTS,
    )


def _revision(revision: pb.CatalogRevision) -> Revision:
    # A variant that runs what this code does not know yet cannot serve here.
    variants = tuple(
        _variant(variant, serving) for variant in revision.variants if (serving := _serving(variant)) is not None
    )
    routing = routing_from_proto(revision.routing) if revision.HasField("routing") else WEIGHTS_ALONE
    return Revision(revision.uid, revision.number, revision.salt, variants, routing)


def routing_from_proto(routing: routing_pb2.Routing) -> Routing:
    """A routing whose variants are uids."""
    return Routing(
        # A condition over a field of a kind that this code does not know yet is an error for every call.
        fields=tuple(
            Field(field.name, FIELD_KINDS[field.kind]) for field in routing.fields if field.kind in FIELD_KINDS
        ),
        rules=tuple(
            Rule(
                uid=rule.uid,
                display_name=rule.display_name,
                condition=rule.condition,
                active=rule.active,
                shares=tuple(Share(share.variant, share.weight) for share in rule.split.shares)
                if rule.HasField("split")
                else (Share(rule.variant, _WHOLE),),
            )
            for rule in routing.rules
        ),
        coverage=routing.coverage if routing.HasField("coverage") else 1.0,
        baseline=routing.baseline,
    )


def _serving(variant: pb.CatalogVariant) -> Serving | None:
    match variant.WhichOneof("serving"):
        case "completion":
            return _completion(variant.completion)
        case "recommendation":
            unknown_users = UNKNOWN_USERS.get(variant.recommendation.unknown_users, UnknownUsers.POPULAR)
            return Recommendation(variant.recommendation.model, unknown_users)
    return None


def _completion(completion: pb.CatalogCompletion) -> Completion:
    return Completion(
        version=completion.version,
        max_retries=completion.max_retries,
        attempt_timeout_seconds=_seconds(completion, "attempt_timeout"),
        fallbacks=tuple(map(_fallback, completion.fallbacks)),
        retry_statuses=frozenset(completion.retry_statuses),
        first_token_timeout_seconds=_seconds(completion, "first_token_timeout"),
        idle_timeout_seconds=_seconds(completion, "idle_timeout"),
        output_policy=OUTPUT_POLICIES.get(completion.output_policy, OutputPolicy.MARK),
    )


def _fallback(fallback: deployment_pb2.Fallback) -> Fallback:
    return Fallback(
        provider=fallback.provider,
        model=fallback.model,
        parameters=fallback.parameters.SerializeToString() if fallback.HasField("parameters") else None,
        max_retries=fallback.max_retries,
        attempt_timeout_seconds=_seconds(fallback, "attempt_timeout"),
    )


def _seconds(message: pb.CatalogCompletion | deployment_pb2.Fallback, name: str) -> float | None:
    seconds: float | None = getattr(message, name).ToTimedelta().total_seconds() if message.HasField(name) else None  # type: ignore[arg-type]  # a field of either
    return seconds


def _variant(variant: pb.CatalogVariant, serving: Serving) -> Variant:
    return Variant(
        uid=variant.uid,
        number=variant.number,
        slug=variant.slug,
        display_name=variant.display_name,
        active=variant.active,
        weight=variant.weight,
        serving=serving,
    )
