"""Lists of models, kept for a moment: many writes ask for one list within a second."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias

from kit import calls
from services.registry.domain import CheckFailure, ModelList, Provider

Outcome: TypeAlias = ModelList | CheckFailure
Read: TypeAlias = Callable[[Provider], Awaitable[Outcome]]

KEPT_SECONDS: Final = 60.0
KEPT_FAILURE_SECONDS: Final = 15.0
_KEPT_LISTS: Final = 1024
_KEPT_MODELS: Final = 200_000
"""Of all lists together: some 60 MB."""
_SHARE_OF_REMAINING: Final = 0.5
"""How much of a call's time it may wait for a provider: a write needs the rest."""


@dataclass(frozen=True, slots=True)
class _Kept:
    outcome: Outcome
    until: float


class KeptModelLists:
    """The ModelLists port: one request to a provider at a time, whoever asks, and its outcome kept. An async context
    manager; what is on its way when it is left is given up.

    :param read: asks a provider; ends by itself, and raises nothing
    :param time: seconds on any clock that does not go back
    """

    def __init__(self, read: Read, time: Callable[[], float]) -> None:
        self._read = read
        self._time = time
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._models = 0
        self._flights: dict[tuple[str, int], asyncio.Task[Outcome]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def of(self, provider: Provider, *, fresh: bool = False) -> Outcome:
        """As the port says. Another state of the provider is another key: a new address or credential is asked anew."""
        key = (provider.uid, provider.record.changed_in)
        kept = self._kept.get(key)
        if kept is not None and not fresh and self._time() < kept.until:
            self._kept.move_to_end(key)
            return kept.outcome
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, provider))
            self._flights[key] = flight
        call = calls.current_or_none()
        patience = None if call is None else max(0.0, call.remaining_seconds() * _SHARE_OF_REMAINING)
        try:
            async with asyncio.timeout(patience):
                # Shielded: others may wait for it, and who asks next wants what it brings.
                return await asyncio.shield(flight)
        except TimeoutError:
            return CheckFailure(
                "PROVIDER_UNREACHABLE", f"{provider.name} did not list its models before the call's deadline"
            )

    async def _fly(self, key: tuple[str, int], provider: Provider) -> Outcome:
        try:
            outcome = await self._read(provider)
        finally:
            del self._flights[key]
        self._keep(key, outcome)
        return outcome

    def _keep(self, key: tuple[str, int], outcome: Outcome) -> None:
        seconds = KEPT_SECONDS if isinstance(outcome, ModelList) else KEPT_FAILURE_SECONDS
        former = self._kept.pop(key, None)
        self._models += _size(outcome) - (0 if former is None else _size(former.outcome))
        self._kept[key] = _Kept(outcome, self._time() + seconds)
        while len(self._kept) > _KEPT_LISTS or self._models > _KEPT_MODELS:
            _, oldest = self._kept.popitem(last=False)
            self._models -= _size(oldest.outcome)


def _size(outcome: Outcome) -> int:
    return len(outcome.models) if isinstance(outcome, ModelList) else 0
