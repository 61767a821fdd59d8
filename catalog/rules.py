"""The rules of the revisions in use, compiled: which of them a call's context fulfils first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final
from weakref import WeakValueDictionary

from catalog.conditions import Condition, Language, Languages
from catalog.routing import Routing, Rule
from catalog.view import Revision
from kit.json import Json
from kit.shared_lru import SharedLru

MAX_COMPILED_BYTES: Final = 64 << 20
"""Of all that a process keeps compiled."""
_RULES_BYTES: Final = 1024
"""What the rules of a revision hold beside their conditions."""
_SLICE_SECONDS: Final = 0.002

Context = Mapping[str, Json]
"""What a call says of itself, for rules to ask about."""


class Rules:
    """The rules of a revision that are switched on, compiled.

    :ivar routing: whose they are
    """

    __slots__ = ("_language", "_rules", "routing")

    def __init__(self, language: Language, routing: Routing) -> None:
        self.routing = routing
        self._language = language
        self._rules: list[tuple[Rule, Condition]] = []

    def add(self, rule: Rule) -> None:
        """Compile one, to be asked after those before."""
        if rule.active:
            self._rules.append((rule, self._language.condition(rule.condition)))

    def match(self, context: Context) -> Rule | None:
        """The first that is true.

        :param context: as `catalog.conditions.read_context` reads it
        """
        if not self._rules:
            return None
        bindings = self._language.bindings(context)
        for rule, condition in self._rules:
            if condition.is_true(bindings):
                return rule
        return None

    @property
    def size_bytes(self) -> int:
        """About what they hold in memory."""
        return _RULES_BYTES + sum(condition.size_bytes for _, condition in self._rules)


class Compiler:
    """Compiles rules, and keeps those in use. For one event loop.

    Projects share the memory, and one project's rules are compiled one revision at a time: whoever brings many and long
    ones waits for his own, and the others' stay.
    """

    def __init__(self, max_bytes: int = MAX_COMPILED_BYTES) -> None:
        self._languages = Languages()
        self._kept: SharedLru[str, str, Rules] = SharedLru(max_bytes=max_bytes)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self, project: str, revision: Revision) -> Rules:
        """Its rules, compiled in slices between which everybody else runs, unless they are kept.

        :param project: uid of the revision's
        """
        kept = self._find(project, revision)
        if kept is not None:
            return kept
        turn = self._turns.setdefault(project, asyncio.Lock())
        async with turn:
            kept = self._find(project, revision)
            if kept is not None:
                return kept
            rules = self._begun(revision)
            begun = time.monotonic()
            for rule in revision.routing.rules:
                rules.add(rule)
                if time.monotonic() - begun > _SLICE_SECONDS:
                    await asyncio.sleep(0)
                    begun = time.monotonic()
            return self._keep(project, revision, rules)

    def now(self, project: str, revision: Revision) -> Rules:
        """As :meth:`prepare`, but in one go: for whoever has prepared them a moment ago, or has nobody beside."""
        kept = self._find(project, revision)
        if kept is not None:
            return kept
        rules = self._begun(revision)
        for rule in revision.routing.rules:
            rules.add(rule)
        return self._keep(project, revision, rules)

    def _find(self, project: str, revision: Revision) -> Rules | None:
        kept = self._kept.get(project, revision.uid)
        if kept is not None and kept.routing is not revision.routing:
            if kept.routing != revision.routing:
                return None
            # As it came the last time, so that the next look is short again.
            kept.routing = revision.routing
        return kept

    def _begun(self, revision: Revision) -> Rules:
        return Rules(self._languages.of(revision.routing.fields), revision.routing)

    def _keep(self, project: str, revision: Revision, rules: Rules) -> Rules:
        self._kept.put(project, revision.uid, rules, size_bytes=rules.size_bytes)
        return rules


def match(revision: Revision, context: Context) -> Rule | None:
    """The first rule of a revision that is true, compiled for this once.

    :param context: as `catalog.conditions.read_context` reads it
    """
    return Compiler().now("", revision).match(context)
