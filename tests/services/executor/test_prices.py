from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot

from catalog.view import ModelFacts, Provider, ProviderKind
from services.executor.domain import Usage
from services.executor.prices import GenaiPrices, PerToken, _per_token

OPENAI = Provider("p", "prj", "openai", ProviderKind.OPENAI, "https://api.openai.com/v1")
GOOGLE = Provider(
    "p", "prj", "google", ProviderKind.OPENAI_COMPATIBLE, "https://generativelanguage.googleapis.com/v1beta/openai"
)
ANTHROPIC = Provider("p", "prj", "anthropic", ProviderKind.ANTHROPIC, "https://api.anthropic.com")
LOCAL = Provider("p", "prj", "local", ProviderKind.OPENAI_COMPATIBLE, "http://127.0.0.1:8080/v1")


@pytest.fixture
async def prices() -> AsyncIterator[GenaiPrices]:
    prices = GenaiPrices()
    async with prices.loading():
        yield prices


async def test_a_call_costs_what_its_tokens_cost(prices: GenaiPrices) -> None:
    assert await prices.cost_usd_micros(OPENAI, "gpt-4o", Usage(1000, 100)) == 3500
    assert await prices.cost_usd_micros(OPENAI, "gpt-4o", Usage(1000, 100, 500)) == 2875


async def test_a_tier_is_paid_by_all_tokens_of_a_call(prices: GenaiPrices) -> None:
    assert await prices.cost_usd_micros(GOOGLE, "gemini-2.5-pro", Usage(200_000, 1000)) == 200_000 * 1.25 + 10_000
    assert (
        await prices.cost_usd_micros(GOOGLE, "gemini-2.5-pro", Usage(200_001, 1000))
        == round(200_001 * 2.5 + 0.1) + 15_000
    )


WRITES = Usage(10_000, 100, 2000, None, 5000, 1000)
"""3,000 tokens besides what the cache gave, what it took for five minutes (4,000) and for an hour (1,000)."""


async def test_what_is_written_into_a_cache_costs_what_writing_costs(prices: GenaiPrices) -> None:
    # 3 dollars for a million, 0.30 from the cache, 3.75 into it, 6 for an hour, and 15 dollars.
    cost = 3000 * 3 + 2000 * 0.3 + 4000 * 3.75 + 1000 * 6 + 100 * 15
    assert await prices.cost_usd_micros(ANTHROPIC, "claude-3-7-sonnet-latest", WRITES) == cost
    # Prices with tiers are the list's own affair.
    assert await prices.cost_usd_micros(ANTHROPIC, "claude-sonnet-4-5", WRITES) == cost
    # Where nothing is said of writing, it is input as any other.
    assert await prices.cost_usd_micros(OPENAI, "gpt-4o", WRITES) == 8000 * 2.5 + 2000 * 1.25 + 100 * 10


@pytest.mark.parametrize("usage", [Usage(10, 0, 5, None, 6), Usage(10, 0, None, None, 5, 6)])
@pytest.mark.parametrize("model", ["claude-3-7-sonnet-latest", "claude-sonnet-4-5"])
async def test_more_written_than_read_is_a_contradiction(prices: GenaiPrices, model: str, usage: Usage) -> None:
    assert await prices.cost_usd_micros(ANTHROPIC, model, usage) is None


@pytest.mark.parametrize(
    ("read", "cached", "cost"),
    [
        (1_000_000, None, 10_000 + 1500),
        (1_000_000, 100_000, 8000 + 200 + 1500),
        (None, 100_000, 3000 * 3 + 200 + 4000 * 3.75 + 1000 * 6 + 1500),
    ],
)
async def test_beside_an_own_price_of_input_writing_is_input_as_any_other(
    prices: GenaiPrices, read: int | None, cached: int | None, cost: float
) -> None:
    provider = own(ANTHROPIC, "claude-3-7-sonnet-latest", read, cached, None)
    assert await prices.cost_usd_micros(provider, "claude-3-7-sonnet-latest", WRITES) == cost


async def test_writing_where_no_price_is_known_has_no_known_cost(prices: GenaiPrices) -> None:
    assert await prices.cost_usd_micros(own(LOCAL, "smol", None, 1, 1), "smol", Usage(10, 0, 5, None, 5)) is None
    assert await prices.cost_usd_micros(own(LOCAL, "smol", None, 1, 1), "smol", Usage(10, 0, 10)) == 0


async def test_unknown_is_unknown_and_never_zero(prices: GenaiPrices) -> None:
    assert await prices.cost_usd_micros(LOCAL, "gpt-4o", Usage(1000, 100)) is None
    assert await prices.cost_usd_micros(OPENAI, "no-such-model-of-mine", Usage(1000, 100)) is None
    assert await prices.cost_usd_micros(OPENAI, "gpt-4o", Usage(1000, None)) is None
    assert await prices.cost_usd_micros(OPENAI, "gpt-4o", Usage(None, 100)) is None
    assert await prices.cost_usd_micros(OPENAI, "gpt-4o", Usage(10, 10, 11)) is None
    assert await prices.cost_usd_micros(GOOGLE, "gemini-2.5-pro", Usage(10, 10, 11)) is None


async def test_openai_behind_an_own_address_costs_the_same(prices: GenaiPrices) -> None:
    proxied = Provider("p", "prj", "proxied", ProviderKind.OPENAI, "https://llm.example.com/v1")
    assert await prices.cost_usd_micros(proxied, "gpt-4o", Usage(1000, 100)) == 3500


def own(provider: Provider, model: str, read: int | None, cached: int | None, written: int | None) -> Provider:
    return replace(provider, model_facts={model: ModelFacts(read, cached, written, 0)})


@pytest.mark.parametrize(
    ("read", "cached", "written", "usage", "cost"),
    [
        # gpt-4o costs 2.50, cached 1.25, and 10 dollars for a million.
        (1_000_000, None, 2_000_000, Usage(1000, 100), 1200),
        (1_000_000, 100_000, 2_000_000, Usage(1000, 100, 500), 500 + 50 + 200),
        (1_000_000, None, 2_000_000, Usage(1000, 100, 500), 1200),
        (1_000_000, None, None, Usage(1000, 100, 500), 1000 + 1000),
        (None, 100_000, None, Usage(1000, 100, 500), 1250 + 50 + 1000),
        (None, None, 2_000_000, Usage(1000, 100, 500), 1250 + 625 + 200),
        (0, None, 0, Usage(1000, 100), 0),
        (1, None, 0, Usage(499_999, 0), 0),
        (1, None, 0, Usage(500_000, 0), 1),
        (1_000_000, None, 2_000_000, Usage(1000, None), None),
        (1_000_000, None, 2_000_000, Usage(10, 0, 11), None),
    ],
)
async def test_a_providers_own_prices_go_before_the_list(
    prices: GenaiPrices, read: int | None, cached: int | None, written: int | None, usage: Usage, cost: int | None
) -> None:
    provider = own(OPENAI, "gpt-4o", read, cached, written)
    assert await prices.cost_usd_micros(provider, "gpt-4o", usage) == cost
    assert await prices.cost_usd_micros(OPENAI, "gpt-4o", Usage(1000, 100)) == 3500


@pytest.mark.parametrize(
    ("read", "cached", "written", "usage", "cost"),
    [
        (1_000_000, None, 2_000_000, Usage(1000, 100), 1200),
        (1_000_000, None, None, Usage(1000, 100), None),
        (1_000_000, None, None, Usage(1000, 0), 1000),
        (1_000_000, None, None, Usage(1000, 0, 1000), 1000),
        (None, None, 2_000_000, Usage(1000, 100), None),
        (None, None, 2_000_000, Usage(0, 100), 200),
        (None, 100_000, 2_000_000, Usage(1000, 100, 1000), 100 + 200),
        (None, 100_000, 2_000_000, Usage(1000, 100, 999), None),
        (1_000_000, None, 2_000_000, Usage(10, 0, 11), None),
        (None, None, None, Usage(0, 0), None),
    ],
)
async def test_a_call_that_used_what_has_no_price_has_no_known_cost(
    prices: GenaiPrices, read: int | None, cached: int | None, written: int | None, usage: Usage, cost: int | None
) -> None:
    assert await prices.cost_usd_micros(own(LOCAL, "smol", read, cached, written), "smol", usage) == cost


async def test_a_price_that_is_changed_holds_for_the_next_call(prices: GenaiPrices) -> None:
    before, after = own(LOCAL, "smol", 1_000_000, None, 0), own(LOCAL, "smol", 2_000_000, None, 0)
    assert await prices.cost_usd_micros(before, "smol", Usage(1000, 0)) == 1000
    assert await prices.cost_usd_micros(after, "smol", Usage(1000, 0)) == 2000


def test_half_a_millionth_is_rounded_up() -> None:
    price = PerToken(Decimal("0.5"), Decimal(1), Decimal("0.25"), Decimal("0.5"), Decimal("0.5"))
    assert [price(Usage(read, 0)) for read in (1, 2, 3)] == [1, 1, 2]
    assert price(Usage(1, 0, 1)) == 0


def test_the_price_per_token_agrees_with_the_lists_own_calculation_for_every_model() -> None:
    checked = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            per_token = _per_token(model)
            if per_token is None:
                continue
            for counts in ((1234, 567), (1_000_001, 3, 999), (5000, 7, 100, 1, 4000), (5000, 7, 100, 1, 4000, 999)):
                usage = Usage(*counts)
                given = genai_prices.Usage(
                    input_tokens=usage.input_tokens,
                    output_tokens=usage.output_tokens,
                    cache_read_tokens=usage.cached_input_tokens,
                    cache_write_tokens=usage.cache_write_input_tokens,
                    cache_write_1h_tokens=usage.cache_write_1h_input_tokens,
                )
                listed = model.calc_price(given, provider).total_price * 1_000_000
                assert per_token(usage) == listed.quantize(Decimal(1), ROUND_HALF_UP), (model.id, counts)
            checked += 1
    assert checked > 1000
