from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from kit.egress import Egress, EgressPolicy
from kit.secrets import Keyring, Secret
from services.registry.clients import KeyringVault
from services.registry.domain import CheckFailure, ModelList, Project, Provider, ProviderKind, Record
from services.registry.providers import ModelListReader
from services.registry.providers.reader import MAX_ANSWER_BYTES
from tests.services.registry.offering import Offering, http, offering, openai

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RECORD = Record(NOW, NOW, 1, 1)
PROJECT = Project("prj_1", 1, "shop", "Shop", RECORD)
CREDENTIAL = "sk-planted-credential-0123456789"
VAULT = KeyringVault(Keyring.parse(Keyring.generate_setting("test")))


def provider(base_url: str, kind: ProviderKind = ProviderKind.OPENAI_COMPATIBLE, credential: str = "") -> Provider:
    envelope = VAULT.seal(Secret(credential), provider="prv_1") if credential else None
    return Provider("prv_1", PROJECT, "main", kind, "Main", base_url, envelope, RECORD)


@pytest.fixture
async def upstream() -> AsyncIterator[Offering]:
    async with offering() as running:
        yield running


@pytest.fixture
async def reader() -> AsyncIterator[ModelListReader]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield ModelListReader(egress, VAULT, lambda: NOW, timeout_seconds=3)


async def failure(reader: ModelListReader, asked: Provider) -> CheckFailure:
    outcome = await reader.read(asked)
    assert isinstance(outcome, CheckFailure), outcome
    assert outcome.sentence.isprintable()
    assert CREDENTIAL not in repr(outcome)
    return outcome


@pytest.mark.parametrize(
    ("kind", "answer", "path", "header"),
    [
        (ProviderKind.OPENAI, {"data": [{"id": "m"}]}, "/models", "authorization"),
        (ProviderKind.OPENAI_COMPATIBLE, {"data": [{"id": "m"}]}, "/models", "authorization"),
        (ProviderKind.ANTHROPIC, {"data": [{"id": "m"}]}, "/v1/models?limit=1000", "x-api-key"),
        (ProviderKind.OLLAMA, {"models": [{"name": "m"}]}, "/api/tags", "authorization"),
    ],
)
async def test_each_kind_is_asked_in_its_own_words(
    reader: ModelListReader, upstream: Offering, kind: ProviderKind, answer: Any, path: str, header: str
) -> None:
    upstream.then(http(200, answer))

    outcome = await reader.read(provider(upstream.url, kind, CREDENTIAL))

    assert isinstance(outcome, ModelList)
    assert ([each.model for each in outcome.models], outcome.retrieved_at) == (["m"], NOW)
    [(asked, headers)] = upstream.asked
    assert asked == path
    assert headers[header] == (CREDENTIAL if header == "x-api-key" else f"Bearer {CREDENTIAL}")
    assert headers.get("anthropic-version") == ("2023-06-01" if kind is ProviderKind.ANTHROPIC else None)


async def test_names_are_sorted_and_each_is_there_once(reader: ModelListReader, upstream: Offering) -> None:
    upstream.then(openai("b", "a", "b", "C"))

    outcome = await reader.read(provider(upstream.url))

    assert isinstance(outcome, ModelList)
    assert [each.model for each in outcome.models] == ["C", "a", "b"]


async def test_pages_are_read_to_the_last(reader: ModelListReader, upstream: Offering) -> None:
    pages = [{"data": [{"id": f"m &{page}"}], "has_more": page < 3} for page in range(4)]
    upstream.then(*(http(200, page) for page in pages))

    outcome = await reader.read(provider(upstream.url, ProviderKind.ANTHROPIC, CREDENTIAL))

    assert isinstance(outcome, ModelList)
    assert len(outcome.models) == 4
    assert [path for path, _ in upstream.asked[1:]] == [
        f"/v1/models?limit=1000&after_id=m%20%26{page}" for page in range(3)
    ]


@pytest.mark.parametrize("again", [[{"id": "m"}], [{"id": "m"}, {"id": "m"}]])
async def test_pages_that_do_not_end_are_an_invalid_answer(
    reader: ModelListReader, upstream: Offering, again: Any
) -> None:
    upstream.then(http(200, {"data": again, "has_more": True}))

    outcome = await failure(reader, provider(upstream.url, ProviderKind.ANTHROPIC, CREDENTIAL))

    assert outcome.reason == "PROVIDER_ANSWER_INVALID"
    assert len(upstream.asked) == 2


@pytest.mark.parametrize(
    ("status", "credential", "reason"),
    [
        (401, CREDENTIAL, "CREDENTIAL_REFUSED"),
        (403, CREDENTIAL, "CREDENTIAL_REFUSED"),
        (401, "", "CREDENTIAL_MISSING"),
        (404, CREDENTIAL, "PROVIDER_ERROR"),
        (429, CREDENTIAL, "PROVIDER_ERROR"),
        (500, "", "PROVIDER_ERROR"),
        (202, "", "PROVIDER_ERROR"),
        (301, "", "PROVIDER_ERROR"),
    ],
)
async def test_a_status_is_told_and_what_came_with_it_is_not(
    reader: ModelListReader, upstream: Offering, status: int, credential: str, reason: str
) -> None:
    upstream.then(http(status, {"error": f"bad key {CREDENTIAL}"}, "Location: http://127.0.0.1:1/elsewhere"))

    outcome = await failure(reader, provider(upstream.url, credential=credential))

    assert outcome.reason == reason
    assert credential == "" or str(status) in outcome.sentence
    assert "bad key" not in outcome.sentence
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("kind", [ProviderKind.OPENAI, ProviderKind.ANTHROPIC])
async def test_a_provider_that_always_wants_a_credential_is_not_asked_without(
    reader: ModelListReader, upstream: Offering, kind: ProviderKind
) -> None:
    assert (await failure(reader, provider(upstream.url, kind))).reason == "CREDENTIAL_MISSING"
    assert not upstream.asked


def _many(count: int) -> bytes:
    return openai(*(f"m{number}" for number in range(count)))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nnot JSON!",
        http(200, b""),
        http(200, b'{"data": [{"id": "\\ud800"}]}'),
        http(200, b"\xff\xfe"),
        http(200, b"[" * 500 + b"]" * 500),
        http(200, b"[" * 100_000),
        http(200, b'{"data": [' + b"[" * 40 + b"]" * 40 + b"]}"),
        http(200, {"data": "small"}),
        http(200, b" " * (MAX_ANSWER_BYTES + 1)),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        _many(10_001),
    ],
)
async def test_a_hostile_answer_is_an_invalid_one(reader: ModelListReader, upstream: Offering, answer: bytes) -> None:
    upstream.then(answer)

    assert (await failure(reader, provider(upstream.url))).reason == "PROVIDER_ANSWER_INVALID"


async def test_ten_thousand_models_are_read(reader: ModelListReader, upstream: Offering) -> None:
    upstream.then(_many(10_000))

    outcome = await reader.read(provider(upstream.url))

    assert isinstance(outcome, ModelList)
    assert len(outcome.models) == 10_000


async def test_a_provider_that_drips_its_answer_ends_at_the_deadline(upstream: Offering) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    upstream.then(drip)
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        reader = ModelListReader(egress, VAULT, lambda: NOW, timeout_seconds=0.2)
        async with asyncio.timeout(3):
            outcome = await failure(reader, provider(upstream.url))

    assert outcome.reason == "PROVIDER_UNREACHABLE"


async def test_who_cannot_be_reached_is_named(reader: ModelListReader) -> None:
    outcome = await failure(reader, provider("http://127.0.0.1:1", credential=CREDENTIAL))

    assert outcome.reason == "PROVIDER_UNREACHABLE"
    assert "http://127.0.0.1:1" in outcome.sentence


async def test_a_credential_that_cannot_be_opened_is_told_and_nobody_is_asked(upstream: Offering) -> None:
    other = KeyringVault(Keyring.parse(Keyring.generate_setting("other")))
    asked = provider(upstream.url, credential=CREDENTIAL)
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        for vault, reason in (
            (other, "KEY_ENCRYPTION_KEY_UNKNOWN"),
            (KeyringVault(None), "KEY_ENCRYPTION_KEY_MISSING"),
        ):
            reader = ModelListReader(egress, vault, lambda: NOW, timeout_seconds=3)
            assert (await failure(reader, asked)).reason == reason

    assert not upstream.asked


@dataclass
class Names:
    """A resolver that answers from a list; the last entry stays."""

    answers: list[Sequence[str]]
    asked: list[str] = field(default_factory=list)

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def test_a_name_that_leads_into_a_private_network_is_not_called(upstream: Offering) -> None:
    names = Names([["127.0.0.1"]])
    async with Egress(EgressPolicy(allow_plain_http=True), resolver=names) as egress:
        reader = ModelListReader(egress, VAULT, lambda: NOW, timeout_seconds=3)
        asked = provider(f"http://rebound.example:{upstream.port}", credential=CREDENTIAL)
        outcome = await failure(reader, asked)

    assert outcome.reason == "EGRESS_ADDRESS_REFUSED"
    assert names.asked == ["rebound.example"]
    assert not upstream.asked


async def test_the_credential_is_in_no_log_and_no_failure(
    reader: ModelListReader, upstream: Offering, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": f"bad key {CREDENTIAL}", "data": [{"id": f"\n{CREDENTIAL}"}]}
    upstream.then(*(http(status, echo) for status in (401, 403, 404, 500, 200)), f"{CREDENTIAL}\r\n\r\n".encode())

    told = [await failure(reader, provider(upstream.url, credential=CREDENTIAL)) for _ in range(6)]

    assert [headers["authorization"] for _, headers in upstream.asked][:6] == [f"Bearer {CREDENTIAL}"] * 6
    logged = [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    assert not [text for text in (*map(repr, told), *logged) if CREDENTIAL in text]
