from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import targets
from catalog.view import Deployment, DeploymentKind, Project, Revision, View
from kit.errors import AppError, Invalid, NotFound

SHOP, OTHER = Project("prj_1", 1, "shop"), Project("prj_2", 2, "other")
LIVE = Revision("rev_1", "1.0", "salt", ())
PRODUCTION = Revision("rev_2", "2.0", "salt", ())
AGENT = Deployment(
    "dep_1", "prj_1", "travel-assistant", DeploymentKind.COMPLETION, {"live": LIVE, "production#1": PRODUCTION}
)
THEIRS = Deployment("dep_2", "prj_2", "theirs", DeploymentKind.COMPLETION, {"live": LIVE})
VIEW = View().with_changes(
    7,
    [
        ("project/prj_1", SHOP),
        ("project/prj_2", OTHER),
        ("deployment/dep_1", AGENT),
        ("deployment/dep_2", THEIRS),
    ],
)


@pytest.mark.parametrize(
    ("text", "alias"),
    [
        ("travel-assistant", "live"),
        ("travel-assistant:live", "live"),
        ("travel-assistant:production#1", "production#1"),
        ("travel-assistant/production#1", "production#1"),
        ("dep_1", "live"),
        ("dep_1:production#1", "production#1"),
        ("projects/shop/deployments/travel-assistant", "live"),
        ("projects/prj_1/deployments/dep_1:production#1", "production#1"),
        ("projects/1/deployments/travel-assistant", "live"),
        ("projects/shop/deployments/travel-assistant/production#1", "production#1"),
    ],
)
def test_every_form_of_a_target_finds_the_deployment(text: str, alias: str) -> None:
    target = targets.resolve(VIEW, text, tenant="prj_1")

    assert (target.deployment, target.alias) == (AGENT, alias)
    assert target.revision is AGENT.aliases[alias]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nobody", "DEPLOYMENT_NOT_FOUND"),
        ("theirs", "DEPLOYMENT_NOT_FOUND"),
        ("dep_2", "DEPLOYMENT_NOT_FOUND"),
        ("projects/other/deployments/theirs", "DEPLOYMENT_NOT_FOUND"),
        ("projects/shop/deployments/", "DEPLOYMENT_NOT_FOUND"),
        ("projects/shop/providers/p", "DEPLOYMENT_NOT_FOUND"),
        ("travel-assistant:staging", "ALIAS_NOT_FOUND"),
        ("travel-assistant/staging", "ALIAS_NOT_FOUND"),
    ],
)
def test_what_is_not_there_or_not_theirs_is_not_found(text: str, reason: str) -> None:
    with pytest.raises(NotFound) as failure:
        targets.resolve(VIEW, text, tenant="prj_1")

    assert failure.value.reason == reason


def test_a_platform_key_names_the_project() -> None:
    assert targets.resolve(VIEW, "projects/other/deployments/theirs", tenant="").deployment is THEIRS
    with pytest.raises(Invalid) as failure:
        targets.resolve(VIEW, "theirs", tenant="")
    assert failure.value.reason == "TARGET_NEEDS_PROJECT"


@given(st.text(max_size=100))
def test_any_text_finds_something_or_fails_with_a_reason(text: str) -> None:
    try:
        assert targets.resolve(VIEW, text, tenant="prj_1").deployment is AGENT
    except AppError as error:
        assert error.reason.isupper()  # noqa: PT017  # either outcome is right
