from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Invalid
from kit.ids import is_uid
from services.registry import domain
from services.registry.domain import Completion, DeploymentKind, Project, ProviderKind, Record, Revision, Variant

NOW = datetime(2026, 1, 2, tzinfo=UTC)
VARIANT = Variant("var_1", 1, "a", "A", "", True, 100, Completion("ver_1", 0, None))
REVISION = Revision("rev_1", "", "", 1, 0, "salt", "author", "", NOW, False, (VARIANT,))


@pytest.mark.parametrize("slug", ["a", "travel-assistant", "_x", "0a", "a" * 63, "x-1_2"])
def test_a_slug_is_letters_digits_hyphens_and_underscores(slug: str) -> None:
    domain.check_slug(slug, field="deployment_id")


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "1",
        "12-34",
        "_-",
        "A",
        "ä",
        "a b",
        "a.b",
        "a" * 64,
        "a\n",
        "dep_01m80cvg66e00a6rqaz9x63hmy",
        "prj_01m80cvg66e00re11fsvn3zhq6",
    ],
)
def test_a_slug_that_could_be_taken_for_something_else_is_refused(slug: str) -> None:
    with pytest.raises(Invalid) as failure:
        domain.check_slug(slug, field="deployment_id")

    assert failure.value.reason == "SLUG_INVALID"
    assert failure.value.violations[0].field == "deployment_id"


@given(names=st.lists(st.text(max_size=80), max_size=12))
def test_derived_slugs_are_valid_and_distinct_whatever_the_display_names(names: list[str]) -> None:
    slugs: list[str] = []
    for position, name in enumerate(names, start=1):
        slugs.append(domain.variant_slug(name, position, slugs))

    assert len(set(slugs)) == len(slugs)
    for slug in slugs:
        domain.check_slug(slug, field="slug")
        assert not is_uid(slug)


def test_derived_slugs_read_like_the_display_names() -> None:
    assert domain.variant_slug("Größe L, v2!", 1, []) == "groe-l-v2"
    assert domain.variant_slug("Variant 3", 3, []) == "variant-3"
    assert domain.variant_slug("A", 2, ["a", "a-2"]) == "a-3"
    assert domain.variant_slug("42", 7, []) == "variant-42"
    assert domain.variant_slug("日本", 7, []) == "variant-7"


def test_the_first_completion_gets_all_and_later_ones_nothing_by_default() -> None:
    assert [domain.default_weight(DeploymentKind.COMPLETION, position) for position in (1, 2, 3)] == [100, 0, 0]


def test_recommenders_share_alike_by_default() -> None:
    assert [domain.default_weight(DeploymentKind.RECOMMENDATION, position) for position in (1, 2)] == [100, 100]


def test_states_that_do_not_serve_are_warned_of() -> None:
    assert domain.warnings(REVISION) == ()
    assert "no variant:" in domain.warnings(replace(REVISION, variants=()))[0]
    assert "no variant is active" in domain.warnings(replace(REVISION, variants=(replace(VARIANT, active=False),)))[0]
    assert "weights" in domain.warnings(replace(REVISION, variants=(replace(VARIANT, weight=0.0),)))[0]
    inactive = replace(REVISION, variants=(replace(VARIANT, weight=0.0), replace(VARIANT, active=False)))
    assert "weights" in domain.warnings(inactive)[0]


def test_a_base_url_has_no_slash_at_its_end_and_no_query() -> None:
    assert domain.base_url(ProviderKind.OPENAI, "") == "https://api.openai.com/v1"
    assert domain.base_url(ProviderKind.OPENAI_COMPATIBLE, "https://a.example/v1//") == "https://a.example/v1"
    for kind, url, reason in (
        (ProviderKind.OPENAI_COMPATIBLE, "", "BASE_URL_REQUIRED"),
        (ProviderKind.OPENAI, "https://a.example/v1?key=secret", "BASE_URL_INVALID"),
        (ProviderKind.OPENAI, "https://a.example/v1#part", "BASE_URL_INVALID"),
    ):
        with pytest.raises(Invalid) as failure:
            domain.base_url(kind, url)
        assert failure.value.reason == reason
        assert "secret" not in str(failure.value)


def test_an_etag_changes_with_the_change_and_with_the_resource() -> None:
    record = Record(NOW, NOW, 1, 1)

    assert len({record.etag("a"), record.etag("b"), replace(record, changed_in=2).etag("a")}) == 3


def test_a_tenant_sees_its_project_and_the_installation_sees_all() -> None:
    project = Project("prj_a", 1, "a", "A", Record(NOW, NOW, 1, 1))

    assert domain.Caller("key", "prj_a", False).sees(project)
    assert domain.Caller("key", "", True).sees(project)
    assert not domain.Caller("key", "prj_b", False).sees(project)
