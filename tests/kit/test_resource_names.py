from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Invalid
from kit.resource_names import parse

segments = st.from_regex(r"\A[A-Za-z0-9_-]{1,63}\Z")


@given(project=segments, deployment=segments)
def test_a_name_is_taken_apart_by_its_pattern(project: str, deployment: str) -> None:
    name = f"projects/{project}/deployments/{deployment}"

    assert parse(name, "projects/*/deployments/*", field="name") == (project, deployment)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "projects",
        "projects/",
        "projects//deployments/b",
        "projects/a/providers/b",
        "projects/a/deployments/b/",
        "/projects/a/deployments/b",
        "projects/a/deployments/b\n",
        "projects/a/deployments/b\0",
        "projects/a/deployments/b c",
        "projects/a/deployments/é",
        "projects/a/deployments/" + "b" * 64,
        "Projects/a/deployments/b",
    ],
)
def test_another_form_is_refused_with_its_field_and_the_form_it_must_have(name: str) -> None:
    with pytest.raises(Invalid) as failure:
        parse(name, "projects/*/deployments/*", field="parent")

    assert failure.value.reason == "RESOURCE_NAME_MALFORMED"
    assert failure.value.violations[0].field == "parent"
    assert "projects/*/deployments/*" in failure.value.message
