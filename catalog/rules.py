"""The rules of the revisions in use, compiled: which of them a call's context fulfils first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from catalog.conditions import Condition, Language, Languages
from catalog.routing import Routing, Rule
from catalog.view import Revision
from kit.json import Json
from kit.shared_lru import SharedLru
from kit.turns import SLICE_SECONDS, Turns

MAX_COMPILED_BYTES: Final = 64 << 20
"""Of all that a process keeps compiled."""
_RULES_BYTES: Final = 1024
"""What the rules of a revision hold beside their conditions."""

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

    async def find(self, context: Context, turns: Turns, project: str) -> Rule | None:
        """As :meth:`match`; but what takes long, as lists and patterns may, goes on in slices.

        :param project: whose slices they are
        """
        if not self._rules:
            return None
        bindings = self._language.bindings(context)
        until, asked = time.monotonic() + SLICE_SECONDS, 0
        for rule, condition in self._rules:
            if condition.is_true(bindings):
                return rule
            asked += 1
            if time.monotonic() > until:
                break
        if asked < len(self._rules):
            async with turns.of(project) as turn:
                for rule, condition in self._rules[asked:]:
                    if condition.is_true(bindings):
                        return rule
                    await turn.rest()
        return None

    @property
    def size_bytes(self) -> int:
        """About what they hold in memory."""
        return _RULES_BYTES + sum(condition.size_bytes for _, condition in self._rules)


class Compiler:
    """Compiles rules, keeps those in use, and asks them. For one event loop.

    Projects share the memory fairly, and the time that compiling and slow rules take by turns: whoever brings many and
    long ones waits for his own, and pushes out his own.

    :param turns: None for its own
    """

    def __init__(self, max_bytes: int = MAX_COMPILED_BYTES, *, turns: Turns | None = None) -> None:
        self.turns: Final = turns or Turns()
        self._languages = Languages()
        self._kept: SharedLru[str, Rules] = SharedLru(max_bytes=max_bytes)

    async def match(self, project: str, revision: Revision, context: Context) -> Rule | None:
        """The first rule that is true, compiled if need be.

        :param project: uid of the revision's
        :param context: as `catalog.conditions.read_context` reads it
        """
        if not revision.routing.rules:
            return None
        rules = self._find(project, revision)
        if rules is None:
            rules = await self.prepare(project, revision)
        return await rules.find(context, self.turns, project)

    async def prepare(self, project: str, revision: Revision) -> Rules:
        """The revision's rules, compiled in slices unless they are kept."""
        async with self.turns.of(project) as turn:
            kept = self._find(project, revision)
            if kept is not None:
                return kept
            rules = self._begun(revision)
            for rule in revision.routing.rules:
                rules.add(rule)
                await turn.rest()
            self._kept.put(project, revision.uid, rules, size_bytes=rules.size_bytes)
            return rules

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


def compiled_rules(revision: Revision) -> Rules:
    """Those of a revision, compiled in one go and kept nowhere: for whoever has nobody beside."""
    rules = Rules(Languages().of(revision.routing.fields), revision.routing)
    for rule in revision.routing.rules:
        rules.add(rule)
    return rules


def match(revision: Revision, context: Context) -> Rule | None:
    """The first rule of a revision that is true, compiled for this once.

    :param context: as `catalog.conditions.read_context` reads it
    """
    return compiled_rules(revision).match(context)
