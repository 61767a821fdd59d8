"""Asks a provider for its models, once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import quote

from kit.egress import Egress, Timeouts
from kit.errors import AppError, Invalid
from kit.json import parse
from kit.secrets import Secret
from services.registry.domain import CheckFailure, ModelList, Provider, ProviderKind, ProviderModel
from services.registry.domain.model_lists import MAX_MODELS
from services.registry.ports import Clock, Vault
from services.registry.providers.answers import READ, Unreadable

MAX_ANSWER_BYTES: Final = 4 << 20
"""Of all pages of a list."""
_ANTHROPIC_PAGE: Final = 1000
_ANTHROPIC_VERSION: Final = "2023-06-01"
_MAX_PAGES: Final = 16
_MAX_DEPTH: Final = 32
_NEEDS_CREDENTIAL: Final = (ProviderKind.OPENAI, ProviderKind.ANTHROPIC)
_UNREACHABLE: Final = ("EGRESS_NAME_UNRESOLVED", "EGRESS_CONNECTION_FAILED", "EGRESS_TIMEOUT")
_UNREADABLE: Final = ("EGRESS_RESPONSE_TOO_LARGE", "EGRESS_MALFORMED_RESPONSE")


@dataclass(frozen=True, slots=True)
class ModelListReader:
    """Reads lists of every kind of provider over checked addresses. Failures are answered, never raised, and say
    nothing of the credential, nor anything that the provider said.

    :param timeout_seconds: for all pages of a list together
    """

    egress: Egress
    vault: Vault
    now: Clock
    timeout_seconds: float

    async def read(self, provider: Provider) -> ModelList | CheckFailure:
        """What the provider offers now."""
        try:
            credential = (
                None if provider.envelope is None else self.vault.open(provider.envelope, provider=provider.uid)
            )
        except AppError as error:
            return CheckFailure(error.reason, f"the credential of {provider.name} cannot be opened: {error.message}")
        if credential is None and provider.kind in _NEEDS_CREDENTIAL:
            return _missing(provider)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                models = await self._pages(provider, credential)
        except TimeoutError:
            return CheckFailure(
                "PROVIDER_UNREACHABLE",
                f"{provider.name} did not list its models within {self.timeout_seconds:g} s; try again later",
            )
        except Unreadable as error:
            return CheckFailure(
                "PROVIDER_ANSWER_INVALID",
                f"{provider.name} answered something else than a list of models: {error}; "
                "check its kind and its base_url",
            )
        except AppError as error:
            return _failed(provider, error)
        if isinstance(models, CheckFailure):
            return models
        return ModelList(tuple(models[name] for name in sorted(models)), self.now())

    async def _pages(self, provider: Provider, credential: Secret | None) -> dict[str, ProviderModel] | CheckFailure:
        found: dict[str, ProviderModel] = {}
        url, left, read = _url(provider), MAX_ANSWER_BYTES, READ[provider.kind]
        headers = _headers(provider.kind, credential)
        timeout = Timeouts(self.timeout_seconds, self.timeout_seconds, self.timeout_seconds)
        page = url
        for _ in range(_MAX_PAGES):
            answer = await self.egress.request("GET", page, headers=headers, timeout=timeout, max_response_bytes=left)
            if answer.status != 200:
                return _refused(provider, answer.status, has_credential=credential is not None)
            left -= len(answer.body)
            try:
                document = parse(answer.body, field="its answer", max_bytes=MAX_ANSWER_BYTES, max_depth=_MAX_DEPTH)
            except Invalid:
                # Not its sentence: that quotes what stands in the document.
                raise Unreadable("it is not JSON, or nested too deep") from None
            listed = read(document)
            known = len(found)
            found.update((model.model, model) for model in listed.models)
            if len(found) > MAX_MODELS:
                raise Unreadable(f"it has more than {MAX_MODELS:,} models")
            if not listed.next_page:
                return found
            if len(found) == known or left <= 0:
                raise Unreadable("its pages do not end")
            page = f"{url}&after_id={quote(listed.next_page, safe='')}"
        raise Unreadable(f"it has more than {_MAX_PAGES} pages")


def _url(provider: Provider) -> str:
    match provider.kind:
        case ProviderKind.OPENAI | ProviderKind.OPENAI_COMPATIBLE:
            return f"{provider.base_url}/models"
        case ProviderKind.ANTHROPIC:
            return f"{provider.base_url}/v1/models?limit={_ANTHROPIC_PAGE}"
        case ProviderKind.OLLAMA:
            return f"{provider.base_url}/api/tags"
    assert_never(provider.kind)


def _headers(kind: ProviderKind, credential: Secret | None) -> Mapping[str, str]:
    headers = {"accept": "application/json"}
    if kind is ProviderKind.ANTHROPIC:
        headers["anthropic-version"] = _ANTHROPIC_VERSION
    if credential is not None:
        if kind is ProviderKind.ANTHROPIC:
            headers["x-api-key"] = credential.reveal()
        else:
            headers["authorization"] = f"Bearer {credential.reveal()}"
    return headers


def _refused(provider: Provider, status: int, *, has_credential: bool) -> CheckFailure:
    if status in (401, 403):
        if not has_credential:
            return _missing(provider)
        return CheckFailure(
            "CREDENTIAL_REFUSED",
            f"{provider.name} refused its credential (HTTP {status}); store another with UpdateProvider",
        )
    what = "answered with an error"
    if 300 <= status < 400:
        what = "answered with a redirect, which is not followed: write the address where it leads into its base_url"
    elif status == 404:
        what = "has no list of models at its base_url: check that and its kind"
    return CheckFailure("PROVIDER_ERROR", f"{provider.name} {what} (HTTP {status})")


def _missing(provider: Provider) -> CheckFailure:
    return CheckFailure(
        "CREDENTIAL_MISSING", f"{provider.name} wants a credential and has none; store one with UpdateProvider"
    )


def _failed(provider: Provider, error: AppError) -> CheckFailure:
    reason = error.reason
    if reason in _UNREACHABLE:
        return CheckFailure("PROVIDER_UNREACHABLE", f"{provider.name} cannot be reached: {error.message}")
    if reason in _UNREADABLE:
        return CheckFailure("PROVIDER_ANSWER_INVALID", f"{provider.name} cannot be understood: {error.message}")
    return CheckFailure(reason, f"{provider.name} cannot be called: {error.message}")
