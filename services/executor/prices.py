"""What providers charge, from the price list of genai-prices.

A look-up in that list takes 200 µs, so each model is looked up once; most have one price per token, and then a call
costs two multiplications. Prices with tiers or hours of the day are left to the list's own calculation.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final

from catalog import view
from catalog.view import ProviderKind
from services.executor.domain import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

_KEPT: Final = 4096
_SIMPLE: Final = frozenset(
    {
        "input_mtok",
        "output_mtok",
        "cache_read_mtok",
        # What a chat completion without server-side tools never uses.
        "cache_write_mtok",
        "cache_write_1h_mtok",
        "web_searches_kcount",
        "storage_searches_kcount",
    }
)
_UNIT: Final = Decimal(1)
_MILLION: Final = Decimal(1_000_000)

Cost = Callable[[Usage], int | None]


@dataclass(frozen=True, slots=True)
class PerToken:
    """Millionths of a US dollar for one token, which is as much as US dollars for a million."""

    read: Decimal
    written: Decimal
    read_from_cache: Decimal

    def __call__(self, usage: Usage) -> int | None:
        """The price of a call, rounded half up; None if a count is missing or the counts contradict each other."""
        read, written, cached = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens or 0
        if read is None or written is None or cached > read:
            return None
        cost = (read - cached) * self.read + written * self.written
        if cached:
            cost += cached * self.read_from_cache
        return int(cost.quantize(_UNIT, ROUND_HALF_UP))


class GenaiPrices:
    """Prices by provider and model, each looked up once."""

    def __init__(self) -> None:
        self._loaded: asyncio.Future[None] | None = None
        self._kept: OrderedDict[tuple[ProviderKind, str, str], Cost] = OrderedDict()

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Read the price list in a thread of its own, so that a start does not wait the half second that it takes."""
        self._loaded = asyncio.ensure_future(asyncio.to_thread(_load))
        try:
            yield
        finally:
            await asyncio.gather(self._loaded, return_exceptions=True)

    async def cost_usd_micros(self, provider: view.Provider, model: str, usage: Usage) -> int | None:
        """As the port says. The first calls of a process wait until the list is there."""
        if self._loaded is not None and not self._loaded.done():
            # Shielded: a caller that leaves must not take the list from the others.
            await asyncio.shield(self._loaded)
        key = (provider.kind, provider.base_url, model)
        cost = self._kept.get(key)
        if cost is None:
            cost = self._kept[key] = _cost(provider, model)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return cost(usage)


def _load() -> None:
    # Late: the list and what it imports take half a second and are of no use before the first answer.
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def _cost(provider: view.Provider, model: str) -> Cost:
    found = _find(provider, model)
    if found is None:
        return _unknown
    return _per_token(found[1]) or _by_list(*found)


def _find(provider: view.Provider, model: str) -> tuple[Provider, ModelInfo] | None:
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    try:
        listed = snapshot.find_provider(None, None, provider.base_url)
    except LookupError:
        if provider.kind is not ProviderKind.OPENAI:
            return None
        # OpenAI behind an address of the operator's own.
        listed = snapshot.find_provider(None, "openai", None)
    known = listed.find_model(model, all_providers=snapshot.providers)
    return None if known is None else (listed, known)


def _per_token(model: ModelInfo) -> PerToken | None:
    """None unless one price holds at every time and for every amount."""
    if isinstance(model.prices, list):
        return None
    prices = {name: value for name, value in vars(model.prices).items() if value is not None}
    read, written = prices.get("input_mtok"), prices.get("output_mtok")
    cached = prices.get("cache_read_mtok", read)
    if not prices.keys() <= _SIMPLE or not isinstance(read, Decimal) or not isinstance(written, Decimal):
        return None
    return PerToken(read, written, cached) if isinstance(cached, Decimal) else None


def _by_list(provider: Provider, model: ModelInfo) -> Cost:
    from genai_prices import Usage as ListedUsage

    def cost(usage: Usage) -> int | None:
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        prices = model.get_prices(datetime.now(UTC))
        if prices.input_mtok is None or prices.output_mtok is None:
            return None
        given = ListedUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_input_tokens,
            output_reasoning_tokens=usage.reasoning_output_tokens,
        )
        try:
            total = model.calc_price(given, provider).total_price
        except ValueError:
            # Counts that contradict each other, such as more cached tokens than tokens.
            return None
        return int((total * _MILLION).quantize(_UNIT, ROUND_HALF_UP))

    return cost


def _unknown(_: Usage) -> int | None:
    return None
