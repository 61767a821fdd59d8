"""Random deployments with rules, splits and coverage, as the registry tells of them, and contexts to ask about."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from catalog.convert import change_from_proto
from catalog.view import Deployment, Revision
from turnout.registry.v1 import catalog_pb2, deployment_pb2, revision_pb2, routing_pb2

FIELDS = {
    "country": routing_pb2.FIELD_KIND_STRING,
    "age": routing_pb2.FIELD_KIND_NUMBER,
    "vip": routing_pb2.FIELD_KIND_BOOLEAN,
    "since": routing_pb2.FIELD_KIND_DATE,
    "tags": routing_pb2.FIELD_KIND_LIST,
}
CONDITIONS = (
    'context.country in ["ES", "MX"]',
    'context.country == "DE" || context.vip',
    "context.age >= 18.0",
    "present.age && context.age < 30.0",
    "context.vip",
    "!present.vip",
    'context.tags.exists(t, t == "new")',
    'context.since > timestamp("2026-01-01T00:00:00Z")',
    "10 / int(context.age) > 1",
    "context.country.matches(r'^E')",
    "true",
    "false",
    # The registry would not take it; a catalog may hold it all the same.
    "context.undeclared == 1.0",
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
"""Texts that gRPC carries, the contracts admit and a log can keep."""
KEYS = NAMES.filter(bool)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "country": st.sampled_from(["ES", "MX", "DE", "EE", ["ES"], 7, None, {"no": "text"}]),
        "age": st.sampled_from([0, 17, 18.5, 44, "21", "x", True, [20]]),
        "vip": st.sampled_from([True, False, "true", 1]),
        "since": st.sampled_from(["2026-05-01", "2025-05-01T10:00:00Z", "soon"]),
        "tags": st.sampled_from([["new"], "new", [], ["old", 3], [["new"]]]),
    },
).map(json.dumps)
_WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-6, 100, allow_subnormal=False))


@st.composite
def revisions(draw: st.DrawFn, uid: str = "rev_1", number: str = "1.0", model: str = "") -> catalog_pb2.CatalogRevision:
    """A revision over variants that any two revisions may share."""
    made = catalog_pb2.CatalogRevision(uid=uid, number=number, salt=draw(st.sampled_from(["dep_agent", "other"])))
    places = draw(st.lists(st.integers(0, 5), unique=True, max_size=6))
    for place in places:
        variant = made.variants.add(
            uid=f"var_{place}",
            number=place + 1,
            slug=f"v{place}",
            display_name=draw(NAMES),
            active=draw(st.sampled_from([True, True, False])),
            weight=draw(_WEIGHTS),
        )
        if model:
            variant.recommendation.model = model
            variant.recommendation.unknown_users = deployment_pb2.UNKNOWN_USERS_POPULAR
        else:
            variant.completion.version = f"ver_{place}"
    if places and draw(st.sampled_from([True, True, True, False])):
        _fill_routing(draw, made.routing, [f"var_{place}" for place in places])
    return made


def _fill_routing(draw: st.DrawFn, routing: routing_pb2.Routing, uids: list[str]) -> None:
    for name in draw(st.permutations(list(FIELDS)))[: draw(st.integers(2, 5))]:
        routing.fields.add(name=name, kind=FIELDS[name])
    for place in range(draw(st.integers(0, 5))):
        rule = routing.rules.add(
            uid=f"rul_{place}",
            display_name=draw(NAMES),
            condition=draw(st.sampled_from(CONDITIONS)),
            active=draw(st.sampled_from([True, True, True, False])),
        )
        if draw(st.booleans()):
            rule.variant = draw(st.sampled_from(uids))
        else:
            for uid in draw(st.lists(st.sampled_from(uids), unique=True, min_size=1)):
                rule.split.shares.add(variant=uid, weight=draw(_WEIGHTS))
    coverage = draw(st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)))
    if coverage is not None:
        routing.coverage = coverage
        routing.baseline = draw(st.sampled_from(uids))


@st.composite
def deployments(draw: st.DrawFn) -> catalog_pb2.CatalogEntry:
    """A deployment `agent` of the project `prj_shop`, of either kind, with a revision behind random aliases."""
    model = draw(st.sampled_from(["", "mod_1"]))
    revision = draw(revisions(f"rev_{draw(st.integers(0, 99))}", f"{draw(st.integers(1, 9))}.0", model))
    aliases = draw(st.sets(st.sampled_from(["live", "beta", "production#1"])))
    deployment = catalog_pb2.CatalogDeployment(
        uid="dep_agent",
        project="prj_shop",
        slug="agent",
        kind=deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION if model else deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
        aliases=[catalog_pb2.CatalogAlias(alias=alias, revision=revision.uid) for alias in aliases],
        revisions=[revision],
    )
    return catalog_pb2.CatalogEntry(key="deployment/dep_agent", deployment=deployment)


def in_view(revision: catalog_pb2.CatalogRevision) -> Revision:
    """The same revision as the catalog's view holds it."""
    deployment = catalog_pb2.CatalogDeployment(
        uid="dep_agent",
        kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
        aliases=[catalog_pb2.CatalogAlias(alias="live", revision=revision.uid)],
        revisions=[revision],
    )
    _, found = change_from_proto(catalog_pb2.CatalogEntry(key="deployment/dep_agent", deployment=deployment))
    assert isinstance(found, Deployment)
    return found.aliases["live"]


def as_answered(revision: catalog_pb2.CatalogRevision) -> revision_pb2.Revision:
    """The same revision as the registry answers it: with slugs where the catalog has uids."""
    slugs = {variant.uid: variant.slug for variant in revision.variants}
    answered = revision_pb2.Revision(uid=revision.uid, number=revision.number, salt=revision.salt)
    for variant in revision.variants:
        told = answered.variants.add(
            uid=variant.uid,
            number=variant.number,
            slug=variant.slug,
            display_name=variant.display_name,
            active=variant.active,
            weight=variant.weight,
        )
        if variant.WhichOneof("serving") == "recommendation":
            told.recommendation.model = variant.recommendation.model
        else:
            told.completion.version = variant.completion.version
    if revision.HasField("routing"):
        answered.routing.CopyFrom(revision.routing)
        answered.routing.baseline = slugs.get(revision.routing.baseline, "")
        for rule in answered.routing.rules:
            if rule.HasField("variant"):
                rule.variant = slugs[rule.variant]
            for share in rule.split.shares if rule.HasField("split") else ():
                share.variant = slugs[share.variant]
    return answered
