"""Deployments and their variants: in what a file and the server differ, and the writes over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from cli.apply.differences import ABSENT, Difference, differences
from cli.apply.documents import Document, Kind
from cli.apply.plan import (
    Action,
    Failures,
    Options,
    Outcome,
    Plan,
    Server,
    Step,
    archived,
    found,
    missing,
    said_of,
    wrong,
)
from cli.apply.routing import RoutingPlanner, in_file
from cli.apply.sources import PlannedPrompt
from cli.apply.variants import VariantPlan, VariantPlanner
from turnout.registry.v1 import change_request_pb2, change_request_service_pb2, revision_pb2
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as service_pb

_MAX_PENDING: Final = 50
"""Change requests that are looked through, newest first."""


@dataclass(frozen=True, slots=True)
class DeploymentPlanner:
    """Plans deployments."""

    server: Server
    options: Options
    prompts: Mapping[str, PlannedPrompt]
    """That files declare."""
    new_providers: frozenset[str]
    """That files declare, and nobody has yet."""

    def plan(self, document: Document) -> Plan:
        """What is to be done for one."""
        name = f"{self.server.parent}/deployments/{document.name}"
        former = found(lambda: self.server.deployments.GetDeployment(service_pb.GetDeploymentRequest(name=name)))
        variants = VariantPlanner(self.server, self.options, self.prompts, self.new_providers, document)
        if former is None:
            return self._created(document, variants)
        if former.archived:
            raise archived(document.label, f"turnout deployments unarchive {document.name}")
        return self._changed(document, former, variants)

    def _created(self, document: Document, variants: VariantPlanner) -> Plan:
        fields: dict[str, Any] = document.fields
        wanted = pb.Deployment(
            kind=_kind(fields) or pb.DEPLOYMENT_KIND_COMPLETION,
            display_name=fields.get("display_name", ""),
            description=fields.get("description", ""),
            salt=fields.get("salt", ""),
            protected=fields.get("protected"),
        )
        routing = RoutingPlanner(self.server, self.options, document, variants)
        shown: dict[str, Any] = {key: fields[key] for key in fields if key not in ("variants", "routing", "aliases")}
        failures = Failures()
        for key, each in fields.get("variants", {}).items():
            with failures.collected():
                wanted.variants.append(variants.new(key, each))
                shown.setdefault("variants", {})[key] = variants.as_declared(each)
        with failures.collected():
            new_routing = routing.new()
        failures.raise_all()

        def create(_etag: str, is_dry: bool) -> Outcome:
            given = pb.Deployment()
            given.CopyFrom(wanted)
            if is_dry:
                del given.variants[:]
                given.variants.extend(map(variants.checked, wanted.variants))
            request = service_pb.CreateDeploymentRequest(
                parent=self.server.parent,
                deployment_id=document.name,
                deployment=given,
                validate_only=is_dry,
                skip_model_check=self.options.skips_model_check,
            )
            if fields.get("routing"):
                self._set_routing(request, routing)
            with in_file(document):
                made = self.server.deployments.CreateDeployment(request)
            return Outcome(made.etag, tuple(made.warnings), note=f"revision {made.revision}")

        plan = Plan(document, Action.CREATE, depends=variants.depends)
        plan.differences.extend(differences(ABSENT, shown))
        plan.differences.extend(new_routing)
        plan.steps.append(Step("", create))
        self._aliases(plan, None)
        return plan

    def _set_routing(self, request: service_pb.CreateDeploymentRequest, routing: RoutingPlanner) -> None:
        """Rules call variants by their slugs, which the registry chooses: it is asked for them first."""
        trial = service_pb.CreateDeploymentRequest()
        trial.CopyFrom(request)
        trial.validate_only = True
        would = self.server.deployments.CreateDeployment(trial)
        wanted = routing.of_new(would.variants)
        if wanted is not None:
            request.deployment.routing.CopyFrom(wanted)

    def _changed(self, document: Document, former: pb.Deployment, variants: VariantPlanner) -> Plan:
        kind = _kind(document.fields)
        if kind is not None and kind != former.kind:
            words = {pb.DEPLOYMENT_KIND_COMPLETION: "completions", pb.DEPLOYMENT_KIND_RECOMMENDATION: "recommendations"}
            answers = words.get(former.kind, "something else")
            raise wrong(
                document, "variants", f"must be {answers}: that is what it answers for ever", reason="KIND_CHANGED"
            )
        plan = Plan(document, Action.KEEP, former.etag)
        routing = RoutingPlanner(self.server, self.options, document, variants)
        changes = _changes(variants, routing, former)
        if any(each.step is not None and each.key[0] == "routing" for each in changes):
            routing.check(former.variants, former.routing)
        self._texts(plan, former)
        for change in changes:
            plan.differences.extend(change.differences)
            if change.step is not None:
                plan.steps.append(change.step)
            if change.note:
                plan.notes.append(change.note)
        self._aliases(plan, former)
        self._protection(plan, former)
        plan.depends = variants.depends
        if variants.stops_serving:
            plan.notes.append("then no active variant has a weight: calls will fail with NO_ACTIVE_VARIANT")
        if plan.depends and plan.steps:
            plan.notes.append(
                "a provider of it is not there yet: whether callers would break is seen when it is applied"
            )
        if plan.steps:
            plan.action = Action.CHANGE
            if former.protected:
                self._wait(plan, former, lambda asked: _changes(variants, routing, asked), changes)
        return plan

    def _texts(self, plan: Plan, former: pb.Deployment) -> None:
        fields: dict[str, Any] = plan.document.fields
        defaults = {"display_name": former.name.rpartition("/")[2], "description": "", "salt": former.uid}
        wanted = {path: fields[path] or default for path, default in defaults.items() if path in fields}
        changed = {path: value for path, value in wanted.items() if value != getattr(former, path)}
        plan.differences.extend(Difference(path, getattr(former, path), value) for path, value in changed.items())
        if fields.get("protected") is False and former.protected:
            # First: what follows may then be done by whoever may end the protection.
            plan.differences.append(Difference("protected", True, False))
            changed["protected"] = False
        if changed:
            plan.steps.append(self._update(former, changed))

    def _protection(self, plan: Plan, former: pb.Deployment) -> None:
        if plan.document.fields.get("protected") is True and not former.protected:
            # Last: it is meant for those who come after.
            plan.differences.append(Difference("protected", False, True))
            plan.steps.append(self._update(former, {"protected": True}))

    def _update(self, former: pb.Deployment, changed: dict[str, Any]) -> Step:
        def update(etag: str, is_dry: bool) -> Outcome:
            request = service_pb.UpdateDeploymentRequest(
                deployment=pb.Deployment(name=former.name, etag=etag, **changed),
                update_mask=FieldMask(paths=list(changed)),
                validate_only=is_dry,
            )
            return outcome(self.server.deployments.UpdateDeployment(request))

        return Step(", ".join(changed), update)

    def _aliases(self, plan: Plan, former: pb.Deployment | None) -> None:
        name = f"{self.server.parent}/deployments/{plan.document.name}"
        aliases: dict[str, str] = plan.document.fields.get("aliases", {})  # type: ignore[assignment]  # by its shape
        has = {} if former is None else {each.alias: each.revision for each in former.aliases}
        for alias, revision in aliases.items():
            path = f"aliases.{alias}"
            if has.get(alias) == revision:
                continue
            if former is not None:
                request = service_pb.GetRevisionRequest(name=f"{name}/revisions/{revision}")
                with said_of(plan.document.at(path)):
                    if found(partial(self.server.deployments.GetRevision, request)) is None:
                        raise missing(plan.document, path, f"points to revision {revision}, which there is not")
            elif revision != "1.0":
                raise wrong(
                    plan.document, path, "must be 1.0: a new deployment has no other", reason="REVISION_NOT_FOUND"
                )
            plan.differences.append(Difference(path, has.get(alias, ABSENT), revision))
            plan.steps.append(self._alias(name, alias, revision, is_new=alias not in has))

    def _alias(self, name: str, alias: str, revision: str, *, is_new: bool) -> Step:
        def point(etag: str, is_dry: bool) -> Outcome:
            request = service_pb.SetAliasRequest(
                name=name,
                alias=alias,
                revision=revision,
                etag=etag,
                validate_only=is_dry,
                retain_contract=self.options.retains_contract,
                description=self.options.description,
            )
            return outcome(self.server.deployments.SetAlias(request))

        return Step(f"alias {alias}", point, "created" if is_new else "changed")

    def _wait(
        self,
        plan: Plan,
        former: pb.Deployment,
        changes_from: Callable[[revision_pb2.Revision], list[VariantPlan]],
        changes: list[VariantPlan],
    ) -> None:
        """Of a protected deployment: what was asked for already is not asked for again."""
        request = change_request_service_pb2.ListChangeRequestsRequest(
            parent=former.name, state=change_request_pb2.CHANGE_REQUEST_STATE_PENDING, page_size=_MAX_PENDING
        )
        first = next((change for change in changes if change.step is not None), None)
        for pending in self.server.change_requests.ListChangeRequests(request).change_requests:
            if pending.alias != "live" or pending.base != former.revision or first is None:
                continue
            asked = self._revision(former.name, pending.revision)
            left = {each.key for each in changes_from(asked) if each.step is not None}
            if first.key not in left:
                plan.action, plan.change_request, plan.steps = Action.WAIT, pending.name, []
                return

    def _revision(self, name: str, number: str) -> revision_pb2.Revision:
        return self.server.deployments.GetRevision(service_pb.GetRevisionRequest(name=f"{name}/revisions/{number}"))


def _changes(
    variants: VariantPlanner, routing: RoutingPlanner, of: pb.Deployment | revision_pb2.Revision
) -> list[VariantPlan]:
    """In the order in which they can be written: rules name variants that are there, and let go of those that go."""
    planned = variants.plan(of.variants)
    routed = routing.plan(of.variants, of.routing)
    gone = [each for each in planned if each.key[0] == "delete"]
    kept = [each for each in planned if each.key[0] != "delete"]
    return [*kept, *([] if routed is None else [routed]), *gone]


def outcome(changed: pb.Deployment) -> Outcome:
    """What a write came to."""
    return Outcome(changed.etag, tuple(changed.warnings), changed.change_request, note=f"revision {changed.revision}")


def _kind(fields: Mapping[str, Any]) -> pb.DeploymentKind.ValueType | None:
    """What its variants answer; None if it has none."""
    for variant in fields.get("variants", {}).values():
        is_recommendation = "recommendation" in variant
        return pb.DEPLOYMENT_KIND_RECOMMENDATION if is_recommendation else pb.DEPLOYMENT_KIND_COMPLETION
    return None


def used(document: Document) -> set[tuple[Kind, str]]:
    """The providers and prompts that a deployment's variants name."""
    found: set[tuple[Kind, str]] = set()
    variants: Mapping[str, Any] = document.fields.get("variants", {})  # type: ignore[assignment]  # by its shape
    for variant in variants.values():
        places = (variant, *variant.get("fallbacks", ()))
        found |= {(Kind.PROVIDER, each["provider"]) for each in places if "provider" in each}
        if "prompt" in variant:
            found.add((Kind.PROMPT, variant["prompt"].partition("@")[0]))
    return found
