from __future__ import annotations

from types import MappingProxyType

import pytest

from catalog.view import (
    Change,
    Deployment,
    DeploymentKind,
    ModelFacts,
    Project,
    Provider,
    ProviderKind,
    Revision,
    View,
)
from kit.errors import Invalid, NotFound
from kit.ids import encode
from services.gateway.application import Models
from services.gateway.domain import Model, Place

REVISION = Revision("rev_1", "1.0", "salt", ())


class Catalog:
    def __init__(self, view: View) -> None:
        self._view = view

    def usable_view(self) -> View:
        return self._view


def deployment(
    project: str, slug: str, *aliases: str, kind: DeploymentKind = DeploymentKind.COMPLETION, uid: str = ""
) -> Change:
    uid = uid or f"dep_{project}_{slug}"
    made = Deployment(uid, project, slug, kind, MappingProxyType(dict.fromkeys(aliases, REVISION)))
    return f"deployment/{uid}", made


@pytest.fixture
def models() -> Models:
    view = View().with_changes(
        1,
        [
            ("project/prj_a", Project("prj_a", 1, "shop")),
            ("project/prj_b", Project("prj_b", 2, "other")),
            deployment("prj_a", "zoo", "beta", "live", "a"),
            deployment("prj_a", "bar", "live"),
            deployment("prj_a", "films", "live", kind=DeploymentKind.RECOMMENDATION),
            deployment("prj_b", "theirs", "live"),
        ],
    )
    return Models(Catalog(view))


def test_a_project_sees_its_own_completions_by_name_live_first(models: Models) -> None:
    names = ["bar", "zoo", "zoo:a", "zoo:beta"]
    assert models.list_models("prj_a") == [Model(f"turnout/deployment/{name}", "shop") for name in names]
    assert models.list_models("prj_b") == [Model("turnout/deployment/theirs", "other")]


def test_a_model_is_found_by_every_way_to_write_it_and_told_by_one(models: Models) -> None:
    expected = Model("turnout/deployment/zoo:beta", "shop")
    for written in ("turnout/deployment/zoo:beta", "deployments/zoo/beta", "anotherai/deployment/dep_prj_a_zoo:beta"):
        assert models.get_model("prj_a", written) == expected
    assert models.get_model("prj_a", "deployment/zoo:live").id == "turnout/deployment/zoo"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("zoo", "MODEL_NOT_FOUND"),
        ("deployment/films", "MODEL_NOT_FOUND"),
        ("deployment/theirs", "DEPLOYMENT_NOT_FOUND"),
        ("deployment/zoo:none", "ALIAS_NOT_FOUND"),
    ],
)
def test_what_a_project_cannot_call_is_not_found(models: Models, model: str, reason: str) -> None:
    with pytest.raises(NotFound) as failure:
        models.get_model("prj_a", model)
    assert failure.value.reason == reason


def test_a_model_is_as_old_as_its_deployment() -> None:
    uid = f"dep_{encode(1_700_000_000_999 << 80)}"
    view = View().with_changes(
        1, [("project/prj_a", Project("prj_a", 1, "shop")), deployment("prj_a", "zoo", "live", "beta", uid=uid)]
    )
    made = Models(Catalog(view))
    listed = made.list_models("prj_a")
    assert [model.created_seconds for model in listed] == [1_700_000_000] * 2
    assert made.get_model("prj_a", "deployment/zoo") == listed[0]


def test_a_model_longer_than_any_is_not_found_and_not_repeated(models: Models) -> None:
    with pytest.raises(NotFound) as failure:
        models.get_model("prj_a", "deployment/" + "x" * 4000)
    assert failure.value.reason == "MODEL_NOT_FOUND"
    assert len(failure.value.message) < 400


def test_a_key_without_a_project_has_no_models(models: Models) -> None:
    with pytest.raises(Invalid):
        models.list_models("")
    with pytest.raises(NotFound):
        models.list_models("prj_gone")


# --- models without a deployment


def provider(project: str, slug: str, *models: str) -> Change:
    facts = MappingProxyType(dict.fromkeys(models, ModelFacts(None, None, None, 0)))
    made = Provider(
        f"prv_{project}_{slug}", project, slug, ProviderKind.OPENAI_COMPATIBLE, "https://example.org", facts
    )
    return f"provider/{made.uid}", made


def places(*providers: Change) -> Models:
    projects: list[Change] = [(f"project/prj_{name}", Project(f"prj_{name}", 1, name)) for name in "ab"]
    return Models(Catalog(View().with_changes(1, [*projects, *providers])))


@pytest.mark.parametrize(
    ("model", "named", "place"),
    [
        ("main/m", "", Place("main", "m")),
        ("main/org/m", "", Place("main", "org/m")),
        ("m", "", Place("main", "m")),
        ("writer/m", "", Place("main", "m", agent="writer")),
        ("org/known", "", Place("main", "org/known")),
        ("main/org/known", "", Place("main", "org/known")),
        ("m", "main", Place("main", "m")),
        ("main/m", "main", Place("main", "m")),
        ("org/m", "main", Place("main", "org/m")),
    ],
)
def test_a_model_is_found_behind_its_provider(model: str, named: str, place: Place) -> None:
    models = places(provider("prj_a", "main", "org/known"), provider("prj_b", "theirs"))
    assert models.find("prj_a", model, named) == place


@pytest.mark.parametrize(
    ("model", "named"), [("m", ""), ("writer/m", ""), ("theirs/m", ""), ("main/", ""), ("m", "theirs"), ("m", "no")]
)
def test_what_could_be_in_several_places_is_nowhere(model: str, named: str) -> None:
    models = places(provider("prj_a", "main"), provider("prj_a", "second"), provider("prj_b", "theirs"))
    with pytest.raises(NotFound, match="<provider>/<model>") as failure:
        models.find("prj_a", model, named)
    assert failure.value.reason == "MODEL_NOT_FOUND"
    assert len(failure.value.message) < 500


def test_a_single_provider_is_that_of_the_newest_view() -> None:
    catalog = Catalog(View().with_changes(1, [("project/prj_a", Project("prj_a", 1, "a")), provider("prj_a", "main")]))
    models = Models(catalog)
    assert models.find("prj_a", "m").provider == "main"
    catalog._view = catalog._view.with_changes(2, [provider("prj_a", "second")])
    with pytest.raises(NotFound):
        models.find("prj_a", "m")
    with pytest.raises(Invalid):
        models.find("", "m")
    with pytest.raises(NotFound):
        models.find("prj_gone", "m")
