"""Rules that nobody has asked before are compiled in slices, and projects share what keeping them takes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from catalog import conditions, rules
from catalog.conditions import Field, FieldKind
from catalog.routing import Routing, Rule, Share
from catalog.rules import Compiler, compiled_rules
from catalog.view import Revision

NOBODY = Revision("rev_1", "1.0", "salt", ())


def revision(conditions: int, uid: str = "rev_1", country: str = "ES") -> Revision:
    made = tuple(
        Rule(f"rul_{number}", "", f'context.country == "{country}{number:048}"', True, (Share("var_1", 1),))
        for number in range(conditions)
    )
    return replace(NOBODY, uid=uid, routing=Routing((Field("country", FieldKind.STRING),), made))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every condition that is compiled."""
    texts: list[str] = []
    compile_: Callable[..., object] = conditions.Language._compile

    def noted(self: conditions.Language, text: str) -> object:
        texts.append(text)
        return compile_(self, text)

    monkeypatch.setattr(conditions.Language, "_compile", noted)
    return texts


async def test_others_go_on_while_many_conditions_are_compiled() -> None:
    compiling = asyncio.create_task(Compiler().match("prj_1", revision(150), {}))
    turns = 0
    while not compiling.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_what_is_in_use_is_compiled_once(compiled: list[str]) -> None:
    compiler, wanted = Compiler(), revision(30)
    first, second = await asyncio.gather(compiler.prepare("prj_1", wanted), compiler.prepare("prj_1", wanted))
    assert first is second
    assert await compiler.match("prj_1", wanted, {}) is None
    assert len(compiled) == 30


async def test_rules_that_are_switched_off_are_neither_compiled_nor_asked(compiled: list[str]) -> None:
    wanted = revision(2)
    off = tuple(replace(rule, condition="true", active=False) for rule in wanted.routing.rules)
    wanted = replace(wanted, routing=replace(wanted.routing, rules=off))
    assert (await Compiler().prepare("prj_1", wanted)).match({"country": "ES"}) is None
    assert compiled == []


async def test_nobody_waits_for_the_conditions_of_another_project() -> None:
    compiler = Compiler()
    many = [asyncio.create_task(compiler.prepare("prj_many", revision(300, f"rev_{n}", f"{n:02}"))) for n in range(5)]
    await asyncio.sleep(0)
    await compiler.prepare("prj_few", revision(3, "rev_few", "FR"))
    assert not any(each.done() for each in many)
    for each in many:
        each.cancel()
    await asyncio.gather(*many, return_exceptions=True)


async def test_who_has_waited_in_vain_leaves_the_way_to_the_next() -> None:
    compiler = Compiler()
    first = asyncio.create_task(compiler.prepare("prj_1", revision(300)))
    second = asyncio.create_task(compiler.prepare("prj_1", revision(2, "rev_2")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).match({"country": f"ES{1:048}"}) is not None


async def test_a_project_with_many_conditions_pushes_out_its_own_alone(compiled: list[str]) -> None:
    few = revision(5, "rev_few", "FR")
    compiler = Compiler(max_bytes=20 * compiled_rules(few).size_bytes)
    await compiler.prepare("prj_few", few)
    for number in range(50):
        await compiler.prepare("prj_many", revision(20, f"rev_{number}", f"{number:02}"))
    compiled.clear()
    await compiler.match("prj_few", few, {})
    assert compiled == []
    await compiler.match("prj_many", revision(20, "rev_0", "00"), {})
    assert len(compiled) == 20


async def test_what_another_revision_holds_compiled_costs_nothing_again(compiled: list[str]) -> None:
    compiler = Compiler(max_bytes=1)
    await compiler.prepare("prj_1", revision(9, "rev_1"))
    held = await compiler.prepare("prj_2", revision(9, "rev_2"))
    compiled.clear()
    assert await compiler.match("prj_1", revision(9, "rev_1"), {"country": f"ES{8:048}"}) is not None
    assert held.match({}) is None
    assert compiled == []


async def test_an_avalanche_of_long_conditions_leaves_the_loop_to_others() -> None:
    """As many conditions as revisions may hold, of many revisions, each called for the first time."""
    compiler = Compiler(max_bytes=1 << 20)
    crowd = [asyncio.create_task(compiler.prepare(f"prj_{n}", revision(50, f"rev_{n}", f"{n}"))) for n in range(20)]
    turns: list[float] = []
    gc.collect()
    while not all(each.done() for each in crowd):
        begun = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - begun)
    assert len(turns) > 20
    # All but one, which may have collected the garbage of other tests.
    assert sorted(turns)[-2] < 0.05, "one condition's compilation is all that anybody waits for"


async def test_what_a_revision_says_now_counts_whatever_was_kept_under_its_name(compiled: list[str]) -> None:
    compiler, before, after = Compiler(), revision(1), revision(1, country="FR")
    await compiler.prepare("prj_1", before)
    assert await compiler.match("prj_1", after, {"country": f"FR{0:048}"}) is after.routing.rules[0]
    compiled.clear()
    assert await compiler.match("prj_1", revision(1, country="FR"), {}) is None
    assert compiled == [], "the same, read once more"


PATTERN = ".*a" + "." * 120
SLOW = " || ".join(f"context.country.matches(r'{PATTERN}{end}')" for end in "!%#~")
"""As slow as a condition may be asked about a long text."""


async def test_rules_that_take_long_are_asked_in_slices_and_say_the_same() -> None:
    fields = (Field("country", FieldKind.STRING),)
    slow = tuple(Rule(f"rul_{n}", "", SLOW, True, (Share("var_1", 1),)) for n in range(12))
    last = Rule("rul_last", "", "present.country", True, (Share("var_1", 1),))
    wanted = replace(NOBODY, routing=Routing(fields, (*slow, last)))
    compiler, context = Compiler(), {"country": "a" * 1024}
    await compiler.prepare("prj_1", wanted)

    asking = asyncio.create_task(compiler.match("prj_1", wanted, context))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0)
        turns += 1

    assert asking.result() is last is compiled_rules(wanted).match(context)
    assert turns > 10


def test_rules_are_matched_without_keeping_them() -> None:
    wanted = revision(3)
    assert rules.match(wanted, {"country": f"ES{2:048}"}) is wanted.routing.rules[2]
    assert rules.match(wanted, {}) is None
    assert rules.match(NOBODY, {}) is None
