"""What providers charge, and how much their models can read: what the provider's own settings say of a model, else the
price list of genai-prices.

A look-up in that list takes 200 µs, so each model is looked up once; most have one price per token, and then a call
costs a few multiplications. Prices with tiers or hours of the day are left to the list's own calculation.

Input that a cache gave or took has prices of its own where the list has them. Without one it costs what other input
does, as in the list's own calculation: most providers write their caches for nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Final

from catalog import view
from catalog.view import ModelFacts, ProviderKind
from services.executor.domain import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

_KEPT: Final = 4096
_SIMPLE: Final = frozenset(
    {
        "input_mtok",
        "output_mtok",
        "cache_read_mtok",
        "cache_write_mtok",
        "cache_write_1h_mtok",
        # What a chat completion without server-side tools never uses.
        "web_searches_kcount",
        "storage_searches_kcount",
    }
)
_UNIT: Final = Decimal(1)
_MILLION: Final = Decimal(1_000_000)

Cost = Callable[[Usage], int | None]


@dataclass(frozen=True, slots=True)
class PerToken:
    """Millionths of a US dollar for one token, which is as much as US dollars for a million. None is not known."""

    read: Decimal | None
    written: Decimal | None
    read_from_cache: Decimal | None
    written_to_cache: Decimal | None
    written_to_cache_1h: Decimal | None

    def __call__(self, usage: Usage) -> int | None:
        """The price of a call, rounded half up; None if a count is missing, the counts contradict each other, or a
        price is not known that it needs."""
        read, written, cached = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens or 0
        kept, kept_1h = usage.cache_write_input_tokens or 0, usage.cache_write_1h_input_tokens or 0
        if read is None or written is None or cached + kept > read or kept_1h > kept:
            return None
        cost = Decimal(0)
        for count, price in (
            (read - cached - kept, self.read),
            (written, self.written),
            (cached, self.read_from_cache),
            (kept - kept_1h, self.written_to_cache),
            (kept_1h, self.written_to_cache_1h),
        ):
            if count:
                if price is None:
                    return None
                cost += count * price
        return int(cost.quantize(_UNIT, ROUND_HALF_UP))


_UNKNOWN: Final = PerToken(None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a model."""

    cost: Cost
    context_window_tokens: int | None


class GenaiPrices:
    """Prices and sizes by provider and model, each looked up once."""

    def __init__(self) -> None:
        self._loaded: asyncio.Future[None] | None = None
        self._kept: OrderedDict[tuple[ProviderKind, str, str, ModelFacts | None], _Known] = OrderedDict()

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
        return self._of(provider, model).cost(usage)

    def context_window_tokens(self, provider: view.Provider, model: str) -> int | None:
        """How much a model can read and write together; None if unknown, and of what only the list knows until that is
        there, half a second after the start: a provider refuses what is too large itself."""
        facts = provider.model_facts.get(model)
        if facts is not None and facts.context_window_tokens:
            return facts.context_window_tokens
        if self._loaded is not None and not self._loaded.done():
            return None
        return self._of(provider, model).context_window_tokens

    def _of(self, provider: view.Provider, model: str) -> _Known:
        key = (provider.kind, provider.base_url, model, provider.model_facts.get(model))
        known = self._kept.get(key)
        if known is None:
            known = self._kept[key] = _look_up(provider, model, key[3])
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return known


def _load() -> None:
    # Late: the list and what it imports take half a second and are of no use before the first answer.
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def _look_up(provider: view.Provider, model: str, facts: ModelFacts | None) -> _Known:
    found = _find(provider, model)
    window = None if found is None else found[1].context_window
    if found is None:
        cost: Cost = _unknown
    else:
        cost = _per_token(found[1]) or _by_list(*found)
    return _Known(cost if facts is None else _own_or(facts, cost), window)


def _own_or(facts: ModelFacts, listed: Cost) -> Cost:
    """The provider's own prices; for those that they leave out the list's, where that has one price per token.

    What the list saves for a token from a cache, or wants more for one into it, is off the list's price for input, and
    says nothing of another: beside an own one, these cost what other input does.
    """
    read, written = _dollars(facts.input_usd_micros_per_million), _dollars(facts.output_usd_micros_per_million)
    cached = _dollars(facts.cached_input_usd_micros_per_million)
    if read is None and written is None and cached is None:
        return listed
    prices = listed if isinstance(listed, PerToken) else _UNKNOWN
    if read is not None:
        prices = PerToken(read, prices.written, read, read, read)
    return replace(
        prices,
        written=prices.written if written is None else written,
        read_from_cache=prices.read_from_cache if cached is None else cached,
    )


def _dollars(usd_micros_per_million: int | None) -> Decimal | None:
    """For a million tokens; as much as millionths for one."""
    return None if usd_micros_per_million is None else usd_micros_per_million / _MILLION


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
    read = prices.get("input_mtok")
    kept = prices.get("cache_write_mtok", read)
    each = (
        read,
        prices.get("output_mtok"),
        prices.get("cache_read_mtok", read),
        kept,
        prices.get("cache_write_1h_mtok", kept),
    )
    if not prices.keys() <= _SIMPLE or not all(isinstance(price, Decimal) for price in each):
        return None
    return PerToken(*each)


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
            cache_write_tokens=usage.cache_write_input_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_input_tokens,
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
