"""`turnout route`, against a router that answers what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import Result

from tests.cli.routers import Router, decision, serving
from turnout.router.v1 import routing_service_pb2 as pb


@pytest.fixture
def router() -> Iterator[tuple[Router, str]]:
    answering = Router(
        route=pb.RouteResponse(
            decision=decision(),
            variant="projects/shop/deployments/guide/variants/spanish",
            variant_display_name="Spanish one",
            version="ver_1",
        )
    )
    with serving(answering) as address:
        yield answering, address


def asked(turnout: Callable[..., Result], address: str, *arguments: str) -> Result:
    return turnout(*arguments, TURNOUT_ADDRESS=address, TURNOUT_PROJECT="shop")


def test_it_says_which_variant_why_how_likely_and_what_it_runs(
    turnout: Callable[..., Result], router: tuple[Router, str]
) -> None:
    served, address = router

    shown = asked(
        turnout, address, "route", "guide:staging", "-c", "country=ES", "--key", "k", "--identity", "i", "--user", "u"
    )

    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines() == [
        "variant     spanish (Spanish one)",
        "why         rule Spanish matched",
        "propensity  30 % of random keys with this context get it",
        "sticks to   the routing key",
        "runs        openai/gpt-4o (ver_1)",
        "revision    1.3, as live now",
    ]
    [request] = served.requests
    expected = pb.RouteRequest(
        deployment="projects/shop/deployments/guide:staging",
        context_json='{"country":"ES"}',
        routing_key="k",
        identity="i",
        user="u",
    )
    assert request == expected


def test_of_a_recommender_it_names_the_model(turnout: Callable[..., Result], router: tuple[Router, str]) -> None:
    served, address = router
    served.route.model = "mod_1"

    assert "runs        Taste (mod_1)" in asked(turnout, address, "route", "movies", "--user", "42").stdout


def test_a_key_that_may_only_route_gets_the_uid(turnout: Callable[..., Result]) -> None:
    answering = Router(route=pb.RouteResponse(decision=decision(), variant="projects/shop/x", version="ver_1"))
    with serving(answering, registry=False) as address:
        shown = asked(turnout, address, "route", "guide")

    assert shown.exit_code == 0, shown.stderr
    assert "runs        ver_1\n" in shown.stdout


def test_programs_get_the_answer_as_it_is(turnout: Callable[..., Result], router: tuple[Router, str]) -> None:
    _, address = router

    found: Any = json.loads(asked(turnout, address, "--json", "route", "guide").stdout)

    assert found["decision"]["rule_name"] == "Spanish"
    assert found["version"] == "ver_1"
