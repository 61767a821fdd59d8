from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from catalog.view import Fallback, ModelFacts, Provider, ProviderKind, StructuredOutput, View
from catalog.view import Version as PackedVersion
from completions.chat import Message, Role
from completions.version import Parameters, Version
from kit.errors import Precondition
from services.executor.domain import Overrides, Unread
from services.executor.output_check import OutputChecks
from services.executor.prepared import Prepared, PreparedVersions

PROVIDER = Provider("prv_main", "prj_shop", "main", ProviderKind.OPENAI_COMPATIBLE, "https://x/v1")
OPENAI = replace(PROVIDER, kind=ProviderKind.OPENAI)


class Work:
    """Fakes of the two ports, which count what they are asked."""

    def __init__(self) -> None:
        self.unpacked: list[bytes] = []
        self.prepared: list[ProviderKind] = []

    def unpack(self, packed: bytes) -> Version:
        self.unpacked.append(packed)
        return Version(packed.decode(), "test-model", (Message(Role.USER, "{{ country }}?"),))

    def unpack_parameters(self, packed: bytes) -> Parameters:
        self.unpacked.append(packed)
        return Parameters(temperature=float(packed), extra={"x": 1, "y": 1})

    def prepare(
        self, version: Version, kind: ProviderKind, takes: StructuredOutput = StructuredOutput.JSON_SCHEMA
    ) -> bytes:
        self.prepared.append(kind)
        warmth = "" if version.parameters.temperature is None else f" {version.parameters.temperature}"
        extra = f" {version.parameters.extra}" if version.parameters.extra else ""
        told = "" if takes is StructuredOutput.JSON_SCHEMA else f" takes {takes}"
        return f"{kind} {version.model}{warmth}{extra}{told}".encode()

    async def complete(self, request: Any, timeout_seconds: float) -> Any:
        raise NotImplementedError

    def answer_tokens(self, version: Version) -> int:
        return version.parameters.max_output_tokens or 0

    def request_of(self, request: Any, *, streamed: bool) -> Any:
        raise NotImplementedError

    def stream(self, request: Any, *, total_seconds: float, first_seconds: float, idle_seconds: float) -> Any:
        raise NotImplementedError


def view(*uids: str, provider: Provider | None = PROVIDER, named: str = "prv_main") -> View:
    versions = [(f"version/prj_shop/{uid}", PackedVersion("prj_shop", uid, named.encode())) for uid in uids]
    return View().with_changes(1, [*versions, ("provider/prv_main", provider)])


def kept(work: Work, limit: int = 10, max_bytes: int = 1 << 20) -> PreparedVersions:
    return PreparedVersions(
        work, dict.fromkeys(ProviderKind, work), OutputChecks(), max_versions=limit, max_bytes=max_bytes
    )


def test_a_version_is_prepared_once() -> None:
    work = Work()
    versions, seen = kept(work), view("ver_1")
    first, provider = versions.get(seen, "prj_shop", "ver_1")
    assert versions.get(seen, "prj_shop", "ver_1") == (first, PROVIDER)
    assert provider is PROVIDER
    assert first.compiled.render({"country": "France"}) == (Message(Role.USER, "France?"),)
    assert first.body.prepared == b"openai-compatible test-model"
    assert len(work.unpacked) == 1


def test_only_the_most_recently_used_are_kept() -> None:
    work = Work()
    versions, seen = kept(work, 2), view("ver_1", "ver_2", "ver_3")
    for uid in ("ver_1", "ver_2", "ver_1", "ver_3", "ver_1"):
        versions.get(seen, "prj_shop", uid)
    assert len(work.unpacked) == 3
    versions.get(seen, "prj_shop", "ver_2")
    assert len(work.unpacked) == 4


def test_a_provider_that_changes_is_used_as_it_is_now() -> None:
    work = Work()
    versions = kept(work)
    versions.get(view("ver_1"), "prj_shop", "ver_1")
    moved = replace(PROVIDER, base_url="https://y/v1")
    assert versions.get(view("ver_1", provider=moved), "prj_shop", "ver_1")[1] is moved
    other = replace(PROVIDER, kind=ProviderKind.OPENAI)
    assert versions.get(view("ver_1", provider=other), "prj_shop", "ver_1")[0].body.prepared == b"openai test-model"


def test_what_a_model_takes_is_asked_as_it_is_now() -> None:
    versions = kept(Work())
    spare = Fallback("prv_other", "spare", None, 0, None)
    for takes in (StructuredOutput.JSON_OBJECT, StructuredOutput.TEXT, StructuredOutput.JSON_SCHEMA):
        facts = ModelFacts(None, None, None, 0, takes)
        said = replace(PROVIDER, model_facts={"test-model": facts, "spare": facts})
        told = "" if takes is StructuredOutput.JSON_SCHEMA else f" takes {takes}"
        prepared, _ = versions.get(view("ver_1", provider=said), "prj_shop", "ver_1")
        assert prepared.body.prepared.decode() == f"openai-compatible test-model{told}"
        assert versions.fallback_body(prepared, spare, said).prepared.decode() == f"openai-compatible spare{told}"
        brought = versions.of_call("prj_shop", ("x",), said, lambda: ("ver_2", Version("prv_main", "test-model")))
        assert brought.body.prepared == prepared.body.prepared


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (view(), "VERSION_NOT_FOUND"),
        (view("ver_1", provider=None), "PROVIDER_NOT_FOUND"),
        (view("ver_1", named="prv_gone"), "PROVIDER_NOT_FOUND"),
        (view("ver_1", provider=replace(PROVIDER, project="prj_other")), "PROVIDER_NOT_FOUND"),
    ],
)
def test_what_the_catalog_lacks_is_named(seen: View, reason: str) -> None:
    with pytest.raises(Precondition) as failure:
        kept(Work()).get(seen, "prj_shop", "ver_1")
    assert failure.value.reason == reason


def test_equal_versions_of_two_projects_are_two() -> None:
    with pytest.raises(Precondition):
        kept(Work()).get(view("ver_1"), "prj_other", "ver_1")


def test_a_fallback_is_prepared_once_for_each_kind_and_bounded() -> None:
    work = Work()
    versions = kept(work)
    prepared, _ = versions.get(view("ver_1"), "prj_shop", "ver_1")
    spare = Fallback("prv_other", "spare", b"0.5", 0, None)

    for _ in range(2):
        body = versions.fallback_body(prepared, spare, replace(PROVIDER, kind=ProviderKind.ANTHROPIC))
        assert body.prepared == b"anthropic spare 0.5 {'x': 1, 'y': 1}"
    own = versions.fallback_body(prepared, replace(spare, parameters=None), OPENAI)
    assert own.prepared == b"openai spare"
    assert work.prepared == [ProviderKind.OPENAI_COMPATIBLE, ProviderKind.ANTHROPIC, ProviderKind.OPENAI]
    for number in range(100):
        versions.fallback_body(prepared, replace(spare, model=f"m{number}"), OPENAI)
    assert len(prepared.fallback_bodies) <= 32


@pytest.mark.parametrize(
    ("over", "found"),
    [
        (None, "spare 0.5 {'x': 1, 'y': 1}"),
        (Parameters(temperature=0.1), "spare 0.1 {'x': 1, 'y': 1}"),
        (Parameters(extra={"y": 2, "z": 2}), "spare 0.5 {'x': 1, 'y': 2, 'z': 2}"),
        (Parameters(max_output_tokens=7), "spare 0.5 {'x': 1, 'y': 1}"),
    ],
)
def test_what_a_call_lays_over_wins_at_a_fallback_with_parameters_of_its_own(
    over: Parameters | None, found: str
) -> None:
    versions, version = kept(Work()), Version("prv_main", "test-model", parameters=over or Parameters())
    unread = Unread(b"given", lambda: Overrides(parameters=over))
    prepared = versions.of_call("prj_shop", ("ver_1", b"given"), PROVIDER, lambda: ("ver_2", version), unread)
    body = versions.fallback_body(prepared, Fallback("prv_other", "spare", b"0.5", 0, None), OPENAI)
    assert body.prepared.decode() == f"openai {found}"
    assert body.answer_tokens == (version.parameters.max_output_tokens or 0)


def test_what_calls_bring_along_is_made_once_while_it_fits() -> None:
    work, made = Work(), []
    versions = kept(work, max_bytes=200_000)

    def bring(text: bytes) -> Prepared:
        def make() -> tuple[str, Version]:
            made.append(text)
            return f"ver_{len(text)}", Version("prv_main", "m", (Message(Role.USER, text.decode()),))

        return versions.of_call("prj_shop", (text,), PROVIDER, make)

    assert bring(b"x") is bring(b"x")
    assert bring(b"x" * 5000).uid == "ver_5000"
    bring(b"y" * 9000)
    bring(b"y" * 9000)
    assert len(made) == 3
    bring(b"x" * 5000)
    assert len(made) == 4, "its bytes had no room beside the others"
