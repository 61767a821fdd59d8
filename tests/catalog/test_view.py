from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catalog.view import Change, Deployment, DeploymentKind, Project, View

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
