from __future__ import annotations

from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import plan, targets
from catalog.plan import Decision
from catalog.view import View
from kit.errors import AppError
from kit.status import reason_of
from tests.services.scripted_registry import deployment_entry, key_entry, variant
from turnout.registry.v1 import catalog_pb2
from turnout.registry.v1.deployment_pb2 import DEPLOYMENT_KIND_RECOMMENDATION
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb


async def test_a_decision_is_told_and_nothing_runs(room: Any) -> None:
    response = await room.route("assistant:beta", routing_key="ada")

    slug = response.decision.variant_slug
    assert response == pb.RouteResponse(
        decision=decision_pb2.Decision(
            deployment="dep_assistant",
            alias="beta",
            revision="rev_1",
            revision_number="1.0",
            variant=f"var_{slug}",
            variant_slug=slug,
            evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
            propensity={"mild": 0.9, "wild": 0.1}[slug],
            key_kind=decision_pb2.KEY_KIND_ROUTING_KEY,
        ),
        variant=f"projects/shop/deployments/assistant/variants/{slug}",
        variant_display_name={"mild": "Mild", "wild": ""}[slug],
        version={"mild": "ver_1", "wild": "ver_2"}[slug],
    )


async def test_the_same_key_is_always_answered_the_same(room: Any) -> None:
    answers = [await room.route(user=f"user-{number}") for number in range(40)]
    again = [await room.route(user=f"user-{number}") for number in range(40)]

    assert answers == again
    assert {answer.decision.variant_slug for answer in answers} == {"mild", "wild"}


async def test_a_call_without_a_key_is_one_draw_of_many(room: Any) -> None:
    await room.put(deployment_entry("assistant", variant("mild", weight=50), variant("wild", weight=50)))

    answers = [await room.route() for _ in range(60)]

    assert {answer.decision.key_kind for answer in answers} == {decision_pb2.KEY_KIND_REQUEST}
    assert {answer.decision.variant_slug for answer in answers} == {"mild", "wild"}


async def test_recommenders_are_routed_too(room: Any) -> None:
    response = await room.route("films", user="1")
    assert (response.model, response.decision.variant_slug) == ("mod_1", "als")


async def test_a_change_of_the_registry_changes_the_answer(room: Any) -> None:
    await room.put(deployment_entry("assistant", variant("new"), revision="rev_2", number="1.1"))
    response = await room.route()
    assert (response.decision.variant_slug, response.decision.revision_number) == ("new", "1.1")


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"deployment": "nothing"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"),
        ({"deployment": "foreign"}, grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND"),
        ({"deployment": "assistant:none"}, grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND"),
        ({"deployment": "closed"}, grpc.StatusCode.FAILED_PRECONDITION, "NO_ACTIVE_VARIANT"),
        ({"deployment": ""}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"deployment": "d" * 401}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"routing_key": "k" * 513}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"user": "u" * 257}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"key": "tk_nonsense"}, grpc.StatusCode.UNAUTHENTICATED, "KEY_MALFORMED"),
    ],
)
async def test_bad_input_gets_a_defined_status(
    room: Any, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    failure = await room.failure(**fields)
    assert (failure.code(), reason_of(failure)) == (code, reason)


async def test_a_key_without_the_scope_is_denied_and_a_platform_key_names_the_project(room: Any) -> None:
    poor, poor_entry = key_entry("registry:read")
    platform, platform_entry = key_entry("platform:admin", project="")
    await room.put(poor_entry, platform_entry)

    assert reason_of(await room.failure(key=poor)) == "SCOPE_MISSING"
    assert reason_of(await room.failure(key=platform)) == "TARGET_NEEDS_PROJECT"
    response = await room.route("projects/other/deployments/foreign", key=platform)
    assert response.decision.deployment == "dep_foreign"


# Texts that gRPC can carry and the contract admits.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-9, 100, allow_subnormal=False))


@st.composite
def revisions(draw: st.DrawFn) -> catalog_pb2.CatalogEntry:
    """A deployment `agent` with a random revision behind a random alias, of either kind."""
    model = draw(st.sampled_from(["", "mod_1"]))
    count = draw(st.integers(0, 6))
    variants = [
        variant(
            f"v{number}",
            uid=f"var_{draw(st.integers(0, 10**6))}_{number}",
            weight=draw(WEIGHTS),
            active=draw(st.booleans()),
            model=model,
            display_name=draw(TEXTS),
        )
        for number in range(count)
    ]
    entry = deployment_entry(
        "agent",
        *variants,
        salt=draw(TEXTS.filter(bool)),
        revision=f"rev_{draw(st.integers(0, 99))}",
        number=f"{draw(st.integers(1, 9))}.{draw(st.integers(0, 9))}",
        aliases=tuple(draw(st.sets(st.sampled_from(["live", "beta", "production#1"])))),
    )
    if model:
        entry.deployment.kind = DEPLOYMENT_KIND_RECOMMENDATION
    return entry


TARGETS = st.sampled_from(
    [
        "agent",
        "agent:beta",
        "agent/production#1",
        "dep_agent",
        "dep_agent:live",
        "projects/shop/deployments/agent:beta",
        "missing",
    ]
)


def decide(view: View, target: str, keys: dict[str, str]) -> Decision | AppError:
    try:
        resolved = targets.resolve(view, target, tenant="prj_shop")
        return plan.decide(resolved, *plan.choose_key(request_id="unused", **keys))
    except AppError as error:
        return error


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    revision=revisions(),
    target=TARGETS,
    keys=st.fixed_dictionaries({"routing_key": TEXTS, "identity": TEXTS, "thread": TEXTS, "user": TEXTS}).filter(
        lambda keys: any(keys.values())
    ),
)
async def test_route_agrees_with_the_decision_in_the_process_in_every_field(
    room: Any, revision: catalog_pb2.CatalogEntry, target: str, keys: dict[str, str]
) -> None:
    await room.put(revision)
    decided = decide(room.process.catalog.usable_view(), target, keys)
    if isinstance(decided, AppError):
        assert reason_of(await room.failure(target, **keys)) == decided.reason
        return

    response = await room.route(target, **keys)

    decision = response.decision
    assert decision.deployment == decided.target.deployment.uid
    assert decision.alias == decided.target.alias
    assert decision.revision == decided.target.revision.uid
    assert decision.revision_number == decided.target.revision.number
    assert decision.variant == decided.variant.uid
    assert decision.variant_slug == decided.variant.slug
    assert decision.propensity == decided.propensity
    assert decision_pb2.Evaluation.Name(decision.evaluation) == f"EVALUATION_{decided.evaluation.name}"
    assert decision_pb2.KeyKind.Name(decision.key_kind) == f"KEY_KIND_{decided.key_kind.name}"
    # A field that is added to the contract must be compared here too.
    assert len(decision.DESCRIPTOR.fields) == 9
    assert response.variant == f"projects/shop/deployments/agent/variants/{decided.variant.slug}"
    assert response.variant_display_name == decided.variant.display_name
    serving = decided.variant.serving
    assert getattr(serving, response.WhichOneof("serving") or "") == (response.version or response.model)
