from __future__ import annotations

from collections.abc import Callable

import pytest
import typer

from cli import names
from cli.client import Client

CLIENT = Client({}, "", "shop")


@pytest.mark.parametrize(
    ("given", "full", "variant", "alias"),
    [
        ("guide", "projects/shop/deployments/guide", "", ""),
        ("dep_0123", "projects/shop/deployments/dep_0123", "", ""),
        ("guide:production#1", "projects/shop/deployments/guide", "", "production#1"),
        ("guide/warm", "projects/shop/deployments/guide", "warm", ""),
        ("guide:staging/warm", "projects/shop/deployments/guide", "warm", "staging"),
        ("projects/demo/deployments/guide", "projects/demo/deployments/guide", "", ""),
        ("projects/demo/deployments/guide:staging", "projects/demo/deployments/guide", "", "staging"),
        ("projects/demo/deployments/guide/variants/7", "projects/demo/deployments/guide", "7", ""),
    ],
)
def test_a_deployment_is_found_by_all_that_commands_print(given: str, full: str, variant: str, alias: str) -> None:
    named = names.deployment(CLIENT, given)

    assert (named.full, named.variant, named.alias) == (full, variant, alias)


@pytest.mark.parametrize(
    "given",
    [
        *("", ":", "guide:", ":live", "guide/", "/warm", "guide/a/b", "projects/demo", "projects/demo/providers/local"),
        *("projects/demo/deployments/guide/revisions/1.0", "projects/demo/deployments/guide/variants/"),
    ],
)
def test_what_names_no_deployment_is_refused_with_how_one_is_named(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="guide:staging"):
        names.deployment(CLIENT, given)


def test_an_alias_and_a_variant_are_said_once_or_alike() -> None:
    named = names.deployment(CLIENT, "guide:staging/warm")

    assert (named.alias_or(""), named.alias_or("staging")) == ("staging", "staging")
    assert names.deployment(CLIENT, "guide").alias_or("canary") == "canary"
    assert names.deployment(CLIENT, "guide").alias_or("") == "live"
    assert (named.variant_or(""), named.variant_or("warm")) == ("warm", "warm")
    assert names.deployment(CLIENT, "guide").variant_or("projects/shop/deployments/guide/variants/warm") == "warm"
    wrongs: tuple[Callable[[], str], ...] = (
        lambda: named.alias_or("canary"),
        lambda: named.alias_or("live"),
        lambda: named.variant_or("cold"),
        lambda: named.variant_or("projects/shop/deployments/other/variants/warm"),
        named.whole,
    )
    for wrong in wrongs:
        with pytest.raises(typer.BadParameter):
            wrong()


def test_other_things_are_found_by_their_whole_name_and_no_other_kind_is() -> None:
    assert names.resource(CLIENT, "local", "providers") == "projects/shop/providers/local"
    assert names.resource(CLIENT, "projects/demo/providers/local", "providers") == "projects/demo/providers/local"
    with pytest.raises(typer.BadParameter, match="providers"):
        names.resource(CLIENT, "projects/demo/prompts/local", "providers")


def test_calls_go_to_the_project_that_was_chosen_and_else_to_that_of_the_key() -> None:
    chosen = Client({}, "", "shop", chosen_project="shop")

    assert names.target(chosen, "guide:staging") == "projects/shop/deployments/guide:staging"
    assert names.target(chosen, "projects/other/deployments/guide") == "projects/other/deployments/guide"
    assert names.target(CLIENT, "guide:staging") == "guide:staging"
