from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from catalog.view import Change, Deployment, DeploymentKind, Project, Provider, ProviderKind, View

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["one", "two", "three"])).map(
            lambda pair: (f"project/prj_{pair[0]}", Project(f"prj_{pair[0]}", 1, pair[1]))
        ),
        st.sampled_from("abc").map(lambda letter: (f"project/prj_{letter}", None)),
        st.sampled_from("abc").map(
            lambda letter: (
                f"deployment/dep_{letter}",
                Deployment(f"dep_{letter}", "prj_a", f"name-{letter}", DeploymentKind.COMPLETION, {}),
            )
        ),
    ),
    max_size=20,
)


@given(CHANGES, st.integers(0, 20))
def test_applying_changes_in_pieces_or_at_once_is_the_same(changes: list[Change], cut: int) -> None:
    at_once = View().with_changes(2, changes)
    in_pieces = View().with_changes(1, changes[:cut]).with_changes(2, changes[cut:])

    assert dict(at_once.things) == dict(in_pieces.things)
    assert dict(at_once.names) == dict(in_pieces.names)


@given(CHANGES)
def test_a_view_never_changes(changes: list[Change]) -> None:
    first = View().with_changes(1, [("project/prj_z", Project("prj_z", 9, "zed"))])
    before = dict(first.things), dict(first.names)

    first.with_changes(2, changes)

    assert (dict(first.things), dict(first.names)) == before


def test_a_thing_that_is_gone_is_found_by_no_name() -> None:
    view = View().with_changes(1, [("project/prj_a", Project("prj_a", 1, "shop"))])

    after = view.with_changes(2, [("project/prj_a", None)])

    assert after.project("prj_a") is None
    assert after.project_named("shop") is None


def test_the_only_provider_of_a_project_is_known() -> None:
    one, two = (Provider(f"prv_{n}", "prj_1", f"p{n}", ProviderKind.OPENAI, "https://x") for n in (1, 2))
    moved = replace(one, project="prj_2")
    view = View().with_changes(1, [("provider/prv_1", one)])
    assert view.only_provider("prj_1") is one
    assert view.with_changes(2, [("provider/prv_1", replace(one, slug="new"))]).only_provider("prj_1") is not one
    assert view.with_changes(2, [("provider/prv_2", two)]).only_provider("prj_1") is None
    both = view.with_changes(2, [("provider/prv_2", two)])
    assert both.with_changes(3, [("provider/prv_1", None)]).only_provider("prj_1") is two
    assert both.with_changes(3, [("provider/prv_1", moved)]).only_provider("prj_2") is moved
    assert view.only_provider("prj_2") is None
