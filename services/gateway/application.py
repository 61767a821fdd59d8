"""Which models a project's keys may call: answered from the local view, so that nobody is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from catalog import targets
from catalog.view import Deployment, DeploymentKind, Project, View
from kit import ids
from kit.errors import NotFound, Violation
from services.gateway.domain import MODEL_PREFIX, Model, Place, deployment_of, no_model
from services.gateway.ports import Views

_MAX_MODEL_CHARACTERS: Final = 400
"""As the executor's contract has it for a target."""


@dataclass(frozen=True, slots=True)
class Models:
    """The deployments of a project that answer completions, as models; and models of its providers."""

    catalog: Views

    def list_models(self, tenant: str) -> list[Model]:
        """All of them, by name; the alias `live` is the name alone.

        :param tenant: uid of the project whose key asks
        :raises Invalid: `TARGET_NEEDS_PROJECT` for a platform key
        :raises NotFound: `PROJECT_NOT_FOUND`
        """
        view = self.catalog.usable_view()
        project = _project(view, tenant)
        found = (
            thing
            for thing in view.things.values()
            if isinstance(thing, Deployment)
            and thing.project == project.uid
            and thing.kind is DeploymentKind.COMPLETION
        )
        return [
            _model(project, deployment, alias)
            for deployment in sorted(found, key=lambda deployment: deployment.slug)
            for alias in sorted(deployment.aliases, key=lambda alias: (alias != targets.LIVE, alias))
        ]

    def get_model(self, tenant: str, model_id: str) -> Model:
        """The one that `model_id` means in a call.

        :raises NotFound: `MODEL_NOT_FOUND`, `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `PROJECT_NOT_FOUND`
        :raises Invalid: `TARGET_NEEDS_PROJECT` for a platform key that names none
        """
        if len(model_id) > _MAX_MODEL_CHARACTERS:
            raise NotFound(
                f"no model has a name of more than {_MAX_MODEL_CHARACTERS} characters",
                reason="MODEL_NOT_FOUND",
                violations=(Violation("model", "must name a deployment"),),
            )
        target = targets.resolve(self.catalog.usable_view(), deployment_of(model_id), tenant=tenant)
        if target.deployment.kind is not DeploymentKind.COMPLETION:
            raise NotFound(
                f"the deployment {target.deployment.slug!r} answers no completions",
                reason="MODEL_NOT_FOUND",
                violations=(Violation("model", "must name a deployment of completions"),),
            )
        return _model(target.project, target.deployment, target.alias)

    def find(self, tenant: str, model: str, provider: str = "") -> Place:
        """Where a model is that is called without a deployment.

        It is `<provider>/<model>`. Where that names no provider, and the project has a single one, it is `<model>` or
        `<agent>/<model>`; a slash is part of the model's name if the provider's facts know it so.

        :param model: as the caller wrote it
        :param provider: the slug that the caller named beside it; empty if none
        :raises NotFound: `MODEL_NOT_FOUND`, `PROJECT_NOT_FOUND`
        :raises Invalid: `TARGET_NEEDS_PROJECT` for a platform key
        """
        view = self.catalog.usable_view()
        project = _project(view, tenant)
        head, _, rest = model.partition("/")
        if provider:
            if view.provider_named(project.uid, provider) is None:
                raise no_model(f"{provider}/{model}")
            return Place(provider, rest if head == provider and rest else model)
        if rest and view.provider_named(project.uid, head) is not None:
            return Place(head, rest)
        single = view.only_provider(project.uid)
        if single is None or not model:
            raise no_model(model)
        if not rest or model in single.model_facts:
            return Place(single.slug, model)
        if "/" in rest:
            raise no_model(model)
        return Place(single.slug, rest, agent=head)


def _project(view: View, tenant: str) -> Project:
    return targets.project_of_key(view, tenant, instead="use a key of a project, which has models")


def _model(project: Project, deployment: Deployment, alias: str) -> Model:
    name = deployment.slug if alias == targets.LIVE else f"{deployment.slug}:{alias}"
    # A uid of ours holds the time of its making, and the catalog knows no other.
    created_seconds = ids.time_ms_of(deployment.uid) // 1000 if ids.is_uid(deployment.uid) else 0
    return Model(MODEL_PREFIX + name, project.slug, created_seconds)
