"""Providers and prompts: what deployments are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from cli import words
from cli.apply import contents
from cli.apply.differences import ABSENT, Difference, differences
from cli.apply.documents import Document
from cli.apply.plan import Action, Options, Outcome, Plan, Server, Step, archived, found, wrong
from kit.json import Json, dump, parse
from turnout.registry.v1 import prompt_pb2, prompt_service_pb2, provider_pb2, provider_service_pb2

_PROVIDER_PATHS: Final = ("display_name", "base_url", "model_facts", "max_concurrent_calls")


def plan_provider(server: Server, document: Document, options: Options) -> Plan:
    """Its kind is for ever; its credential comes from the environment, and is set where none is stored."""
    name = f"{server.parent}/providers/{document.name}"
    fields: dict[str, Any] = document.fields
    kind = words.PROVIDER_KINDS[fields["provider_kind"]]
    former = found(lambda: server.providers.GetProvider(provider_service_pb2.GetProviderRequest(name=name)))
    wanted = provider_pb2.Provider(
        name=name,
        kind=kind,
        display_name=fields.get("display_name", ""),
        base_url=fields.get("base_url", ""),
        model_facts=contents.model_facts(fields.get("model_facts", ())),
        max_concurrent_calls=fields.get("max_concurrent_calls", 0),
    )
    paths: list[str] = [path for path in _PROVIDER_PATHS if path in fields]
    shown = {path: fields[path] for path in ("provider_kind", *_PROVIDER_PATHS) if path in fields}
    changes = []
    has_credential = former is not None and former.has_credential
    # A stored credential goes to no other server than it was given for.
    moves = former is not None and fields.get("base_url", "").rstrip("/") not in ("", former.base_url)
    if "credential_env" in fields and (options.sets_credentials or not has_credential or moves):
        # Whether a stored one is the same cannot be asked, so a stored one stays unless a person says otherwise.
        wanted.credential = _credential(document, fields["credential_env"])
        changes.append(
            Difference("credential", "stored" if has_credential else ABSENT, f"the value of {fields['credential_env']}")
        )
        paths.append("credential")
    if former is None:

        def create(_etag: str, is_dry: bool) -> Outcome:
            request = provider_service_pb2.CreateProviderRequest(
                parent=server.parent, provider_id=document.name, provider=wanted, validate_only=is_dry
            )
            return Outcome(server.providers.CreateProvider(request).etag)

        changes = [*differences(ABSENT, shown), *changes]
        return Plan(document, Action.CREATE, differences=changes, steps=[Step("", create)])
    if former.kind != kind:
        known = words.word(words.PROVIDER_KINDS, former.kind)
        raise wrong(document, "provider_kind", f"is {known} for ever", reason="KIND_CHANGED")
    if former.archived:
        raise archived(document.label, f"turnout providers unarchive {document.name}")

    def update(etag: str, is_dry: bool) -> Outcome:
        return Outcome(_updated(etag, is_dry).etag)

    def _updated(etag: str, is_dry: bool) -> provider_pb2.Provider:
        given = provider_pb2.Provider()
        given.CopyFrom(wanted)
        given.etag = etag
        return server.providers.UpdateProvider(
            provider_service_pb2.UpdateProviderRequest(
                provider=given, update_mask=FieldMask(paths=paths), validate_only=is_dry
            )
        )

    if paths:
        after = _updated(former.etag, True)
        before, then = [
            {path: _value(side, path) for path in paths if path != "credential"} for side in (former, after)
        ]
        changes = [*differences(before, then), *changes]
    action = Action.CHANGE if changes else Action.KEEP
    return Plan(document, action, former.etag, changes, [Step("", update)] if changes else [])


def _value(provider: provider_pb2.Provider, path: str) -> object:
    if path == "model_facts":
        return contents.model_facts_documents(provider.model_facts)
    return getattr(provider, path)


def _credential(document: Document, variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise wrong(document, "credential_env", f"names {variable}, which is not set here", reason="CREDENTIAL_NOT_SET")
    return value


@dataclass(frozen=True, slots=True)
class PlannedPrompt:
    """A prompt as it will be."""

    plan: Plan
    prompt: prompt_pb2.Prompt
    """Of its latest number then."""


def plan_prompt(server: Server, document: Document, options: Options) -> PlannedPrompt:
    """Its messages and its schema are what the file says, whole; a change of them is a new number."""
    name = f"{server.parent}/prompts/{document.name}"
    fields: dict[str, Any] = document.fields
    former = found(lambda: server.prompts.GetPrompt(prompt_service_pb2.GetPromptRequest(name=name)))
    wanted = prompt_pb2.Prompt(
        name=name,
        display_name=fields.get("display_name", ""),
        description=fields.get("description", ""),
        messages=contents.messages(fields["messages"]),
        variables_schema_json=dump(fields["variables_schema"]) if "variables_schema" in fields else "",
        note=options.description,
    )
    if former is None:

        def create(_etag: str, is_dry: bool) -> prompt_pb2.Prompt:
            request = prompt_service_pb2.CreatePromptRequest(
                parent=server.parent, prompt_id=document.name, prompt=wanted, validate_only=is_dry
            )
            return server.prompts.CreatePrompt(request)

        plan = Plan(document, Action.CREATE, differences=list(differences(ABSENT, fields)))
        plan.steps.append(Step("", lambda etag, is_dry: _written(create(etag, is_dry))))
        return PlannedPrompt(plan, create("", True))
    if former.archived:
        raise archived(document.label, f"turnout prompts unarchive {document.name}")
    paths = [path for path in ("display_name", "description") if path in fields] + ["messages", "variables_schema_json"]

    def update(etag: str, is_dry: bool) -> prompt_pb2.Prompt:
        given = prompt_pb2.Prompt()
        given.CopyFrom(wanted)
        given.etag = etag
        return server.prompts.UpdatePrompt(
            prompt_service_pb2.UpdatePromptRequest(
                prompt=given, update_mask=FieldMask(paths=paths), validate_only=is_dry
            )
        )

    after = update(former.etag, True)
    changes = list(differences(_document(former), _document(after)))
    plan = Plan(document, Action.CHANGE if changes else Action.KEEP, former.etag, changes)
    if changes:
        plan.steps.append(Step("", lambda etag, is_dry: _written(update(etag, is_dry))))
    return PlannedPrompt(plan, after)


def _written(prompt: prompt_pb2.Prompt) -> Outcome:
    return Outcome(prompt.etag, note=f"number {prompt.number}")


def _document(prompt: prompt_pb2.Prompt) -> dict[str, Json]:
    shown: dict[str, Json] = {
        "display_name": prompt.display_name,
        "description": prompt.description,
        "messages": contents.message_documents(prompt.messages),
    }
    if prompt.variables_schema_json:
        shown["variables_schema"] = parse(prompt.variables_schema_json, field="variables_schema_json")
    return shown
