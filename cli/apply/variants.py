"""The variants of one deployment: which of a file is which of the server, and what is different in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from google.protobuf.field_mask_pb2 import FieldMask

from cli.apply import contents
from cli.apply.differences import ABSENT, Difference, differences
from cli.apply.documents import Document
from cli.apply.plan import Failures, Options, Outcome, Server, Step, found, missing, said_of, wrong
from cli.apply.sources import PlannedPrompt
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as service_pb
from turnout.registry.v1 import model_service_pb2, prompt_pb2, prompt_service_pb2, version_pb2, version_service_pb2

_WHOLE: Final = 100
"""The weight of a deployment's first variant."""


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """One variant's."""

    key: tuple[str, str]
    """What is done with which."""
    differences: list[Difference] = field(default_factory=list)
    step: Step | None = None
    note: str = ""


@dataclass(slots=True)
class VariantPlanner:
    """Plans the variants of one deployment."""

    server: Server
    options: Options
    prompts: Mapping[str, PlannedPrompt]
    new_providers: frozenset[str]
    document: Document
    depends: bool = False
    """A provider that was looked at is not written yet."""
    stops_serving: bool = False
    """Calls are answered now, and will not be once all is done."""
    _unwritten: dict[str, prompt_pb2.Prompt] = field(default_factory=dict)
    """Prompts that variants use and that are not written yet, by label."""
    made: dict[str, str] = field(default_factory=dict)
    """The slugs of variants that were created, by their names in the file."""

    @property
    def _declared(self) -> dict[str, dict[str, Any]] | None:
        return self.document.fields.get("variants")  # type: ignore[return-value]  # by its shape

    def new(self, key: str, fields: dict[str, Any]) -> pb.Variant:
        """As a deployment gets it."""
        with self._at(key):
            label = self._prompt(key, fields)[0]
            if "recommendation" in fields:
                self._model(key, fields)
            if self._uses_new_providers(fields):
                self.depends = True
            return contents.variant(fields, name=key, prompt=label)

    def checked(self, wanted: pb.Variant) -> pb.Variant:
        """As the server can check it before anything is written: with what a prompt will say in the prompt's place."""
        prompt = self._unwritten.get(wanted.completion.prompt)
        if prompt is None:
            return wanted
        given = pb.Variant()
        given.CopyFrom(wanted)
        given.completion.prompt = ""
        given.completion.new_version.messages.extend(prompt.messages)
        given.completion.new_version.variables_schema_json = prompt.variables_schema_json
        return given

    def as_declared(self, fields: dict[str, Any]) -> dict[str, Any]:
        """As people see one that is new: what the file says."""
        if "recommendation" in fields:
            return fields
        return {**fields, **contents.trying(contents.completion(fields, prompt=""))}

    def plan(self, has: Sequence[pb.Variant]) -> list[VariantPlan]:
        """From these to those of the file: new ones first, then the changed, then those that go."""
        if self._declared is None:
            return []
        pairs = self._pairs(has)
        matched = {variant.uid for variant in pairs.values()}
        unmatched = [variant for variant in has if variant.uid not in matched]
        declared = self._weighed(pairs, () if self.options.prunes else unmatched)
        failures, new, changed = Failures(), [], []
        for key, fields in declared.items():
            with failures.collected():
                if key in pairs:
                    changed.append(self._change(key, fields, pairs[key]))
                else:
                    new.append(self._create(key, fields))
        failures.raise_all()
        self._check_serving(has, serves=self._serves(declared, pairs, () if self.options.prunes else unmatched))
        return [*new, *changed, *map(self._gone, unmatched)]

    def slugs(self, has: Sequence[pb.Variant]) -> dict[str, str]:
        """Of all variants that there will be, by the names that the file may call them; a new one's is not known yet,
        and has its name in its place."""
        declared = self._declared or {}
        pairs = self._pairs(has)
        paired = {variant.uid for variant in pairs.values()}
        stays = [each for each in has if each.uid in paired or self._declared is None or not self.options.prunes]
        return {each.slug: each.slug for each in stays} | {
            key: pairs[key].slug if key in pairs else key for key in declared
        }

    def _weighed(self, pairs: Mapping[str, pb.Variant], staying: Sequence[pb.Variant]) -> dict[str, dict[str, Any]]:
        """What the file declares; its first variant is given all calls where it is new, no weight is written, and
        nothing else would serve: as the first of a deployment, it moves nobody."""
        declared = self._declared or {}
        first = next(iter(declared), None)
        if (
            first is None
            or first in pairs
            or any("weight" in fields for fields in declared.values())
            or self._serves(declared, pairs, staying)
        ):
            return declared
        return {**declared, first: {**declared[first], "weight": _WHOLE}}

    def _serves(
        self, declared: Mapping[str, dict[str, Any]], pairs: Mapping[str, pb.Variant], staying: Sequence[pb.Variant]
    ) -> bool:
        """Whether anything answers calls once all is done."""
        if any(each.active and each.weight > 0 for each in staying):
            return True
        for key, fields in declared.items():
            former = pairs.get(key)
            usual = former.weight if former is not None else _WHOLE if "recommendation" in fields else 0
            is_active = fields.get("active", former is None or former.active)
            if is_active and fields.get("weight", usual) > 0:
                return True
        return False

    def _check_serving(self, has: Sequence[pb.Variant], *, serves: bool) -> None:
        """:raises Invalid: `NOTHING_SERVES`, if a file would take a deployment down without saying so"""
        if serves or not any(each.active and each.weight > 0 for each in has):
            return
        self.stops_serving = True
        for key, fields in (self._declared or {}).items():
            if fields.get("active", True) and fields.get("weight") != 0:
                raise wrong(
                    self.document,
                    f"variants.{key}",
                    "would answer no calls, and no other variant would either: give it a `weight`, or write "
                    "`weight: 0` or `active: false` where that is meant",
                    reason="NOTHING_SERVES",
                )

    def _pairs(self, has: Sequence[pb.Variant]) -> dict[str, pb.Variant]:
        """By slug; else by display name, since the server may have had to choose another slug for a new variant."""
        declared = self._declared or {}
        pairs = {variant.slug: variant for variant in has if variant.slug in declared}
        taken = {variant.uid for variant in pairs.values()}
        for key, fields in declared.items():
            if key in pairs:
                continue
            names = (key, fields.get("display_name") or key)
            same = [each for each in has if each.uid not in taken and each.display_name in names]
            if len(same) > 1:
                slugs = ", ".join(each.slug for each in same)
                raise wrong(
                    self.document, f"variants.{key}", f"may be {slugs}: use the slug", reason="VARIANT_AMBIGUOUS"
                )
            if same:
                pairs[key] = same[0]
                taken.add(same[0].uid)
        return pairs

    def _create(self, key: str, fields: dict[str, Any]) -> VariantPlan:
        wanted = self.new(key, fields)

        def create(etag: str, is_dry: bool) -> Outcome:
            request = service_pb.CreateVariantRequest(
                parent=self._name,
                variant=self.checked(wanted) if is_dry else wanted,
                etag=etag,
                validate_only=is_dry,
                description=self.options.description,
                retain_contract=self.options.retains_contract,
                skip_model_check=self.options.skips_model_check,
            )
            made = self.server.deployments.CreateVariant(request)
            self.made[key] = made.slug
            note = "" if made.slug == key or is_dry else f"its slug is {made.slug}"
            return _outcome(made, note)

        shown = list(differences(ABSENT, self.as_declared(fields), f"variants.{key}"))
        return VariantPlan(("create", key), shown, Step(f"variant {key}", create, "created"))

    def _change(self, key: str, fields: dict[str, Any], former: pb.Variant) -> VariantPlan:
        wanted = pb.Variant(name=former.name)
        paths: list[Literal["display_name", "notes", "active", "weight", "completion", "recommendation"]] = []
        shown: list[Difference] = []
        # An empty display name is the slug's.
        given = fields if fields.get("display_name") != "" else {**fields, "display_name": former.slug}
        for path in ("display_name", "notes", "active", "weight"):
            value = given.get(path, getattr(former, path))
            if value != getattr(former, path):
                setattr(wanted, path, value)
                paths.append(path)
                before = getattr(former, path)
                before, value = (
                    contents.plain_number(float(each)) if path == "weight" else each for each in (before, value)
                )
                shown.append(Difference(f"variants.{key}.{path}", before, value))
        with self._at(key):
            serving = self._recommendation if "recommendation" in fields else self._completion
            served = serving(key, fields, former, wanted)
        if served:
            paths.append("recommendation" if "recommendation" in fields else "completion")
            shown += served
        if not paths:
            return VariantPlan(("change", former.uid))

        def update(etag: str, is_dry: bool) -> Outcome:
            given = pb.Variant()
            given.CopyFrom(self.checked(wanted) if is_dry else wanted)
            given.etag = etag
            request = service_pb.UpdateVariantRequest(
                variant=given,
                update_mask=FieldMask(paths=paths),
                validate_only=is_dry,
                description=self.options.description,
                retain_contract=self.options.retains_contract,
                skip_model_check=self.options.skips_model_check,
            )
            return _outcome(self.server.deployments.UpdateVariant(request))

        return VariantPlan(("change", former.uid), shown, Step(f"variant {key}", update))

    def _gone(self, variant: pb.Variant) -> VariantPlan:
        key = ("delete", variant.uid)
        if not self.options.prunes:
            note = f"variant {variant.slug} is not in the file and stays as it is; --prune takes it away"
            return VariantPlan(key, note=note)

        def delete(etag: str, is_dry: bool) -> Outcome:
            request = service_pb.DeleteVariantRequest(
                name=variant.name,
                etag=etag,
                validate_only=is_dry,
                description=self.options.description,
                retain_contract=self.options.retains_contract,
            )
            changed = self.server.deployments.DeleteVariant(request)
            return Outcome(changed.etag, tuple(changed.warnings), changed.change_request)

        shown = Difference(f"variants.{variant.slug}", variant.display_name, ABSENT)
        return VariantPlan(key, [shown], Step(f"variant {variant.slug}", delete, "deleted"))

    def _recommendation(
        self, key: str, fields: dict[str, Any], former: pb.Variant, wanted: pb.Variant
    ) -> list[Difference]:
        model = self._model(key, fields)
        wanted.recommendation.CopyFrom(contents.recommendation(fields))
        before = contents.recommendation_document(former.recommendation)
        after = {**contents.recommendation_document(wanted.recommendation), "model": model}
        return list(differences(before, after, f"variants.{key}.recommendation"))

    def _completion(self, key: str, fields: dict[str, Any], former: pb.Variant, wanted: pb.Variant) -> list[Difference]:
        label, prompt = self._prompt(key, fields)
        self.depends = self.depends or self._uses_new_providers(fields)
        wanted.completion.CopyFrom(contents.completion(fields, prompt=label))
        has = former.completion
        path = f"variants.{key}"
        shown = list(differences(contents.trying(has), contents.trying(wanted.completion), path))
        content = self._content(key, fields, wanted.completion, prompt)
        if content.uid == has.version:
            # What a version is made from stays known, also where a file says it in full.
            if label and label != has.prompt:
                shown.insert(0, Difference(f"{path}.prompt", has.prompt or ABSENT, label))
            return shown
        served = self._version(has.version)
        before = contents.version_document(served, prompt=has.prompt) if served is not None else {}
        after = contents.version_document(content, prompt=label)
        return [*differences(before, after, path), *shown]

    def _content(
        self, key: str, fields: dict[str, Any], completion: pb.CompletionVariant, prompt: prompt_pb2.Prompt | None
    ) -> version_pb2.Version:
        """The version that a variant of the file amounts to, with its uid where the server could tell it."""
        if completion.version:
            uid = completion.version.rpartition("/")[2]
            served = self._version(uid)
            if served is None:
                raise missing(self.document, f"variants.{key}.version", "names a version that there is not")
            return served
        content = version_pb2.Version()
        content.CopyFrom(completion.new_version)
        if prompt is not None:
            content.messages.extend(prompt.messages)
            content.variables_schema_json = prompt.variables_schema_json
        if fields["provider"] in self.new_providers:
            return content
        request = version_service_pb2.PutVersionRequest(
            # Whether the model is still offered matters only where something changes: then it is checked.
            parent=self.server.parent,
            version=content,
            validate_only=True,
            skip_model_check=True,
        )
        return self.server.versions.PutVersion(request)

    def _version(self, uid: str) -> version_pb2.Version | None:
        request = version_service_pb2.GetVersionRequest(name=f"{self.server.parent}/versions/{uid}")
        return found(lambda: self.server.versions.GetVersion(request))

    def _uses_new_providers(self, fields: dict[str, Any]) -> bool:
        named = {fields.get("provider"), *(each["provider"] for each in fields.get("fallbacks", ()))}
        return not named.isdisjoint(self.new_providers)

    def _model(self, key: str, fields: dict[str, Any]) -> str:
        segment = fields["recommendation"]["model"].rpartition("/")[2]
        request = model_service_pb2.GetModelRequest(name=f"{self.server.parent}/models/{segment}")
        model = found(lambda: self.server.models.GetModel(request))
        if model is None:
            raise missing(self.document, f"variants.{key}.recommendation.model", f"{segment} is not a model here")
        return model.uid

    def _prompt(self, key: str, fields: dict[str, Any]) -> tuple[str, prompt_pb2.Prompt | None]:
        """Its label, number included, and what it says; nothing if the variant has none."""
        if "prompt" not in fields:
            return "", None
        name, _, number = fields["prompt"].partition("@")
        planned = self.prompts.get(name)
        if planned is not None:
            latest = planned.prompt.number
            if not number or int(number) == latest:
                if planned.plan.steps:
                    self._unwritten[f"{name}@{latest}"] = planned.prompt
                return f"{name}@{latest}", planned.prompt
        request = prompt_service_pb2.GetPromptRequest(name=f"{self.server.parent}/prompts/{fields['prompt']}")
        prompt = found(lambda: self.server.prompts.GetPrompt(request))
        if prompt is None:
            raise missing(self.document, f"variants.{key}.prompt", f"names {fields['prompt']}, which there is not")
        return f"{name}@{prompt.number}", prompt

    @property
    def _name(self) -> str:
        return f"{self.server.parent}/deployments/{self.document.name}"

    def _at(self, key: str) -> Any:
        return said_of(self.document.at(f"variants.{key}"))


def _outcome(changed: pb.Variant, note: str = "") -> Outcome:
    return Outcome(changed.etag, tuple(changed.warnings), changed.change_request, note)
