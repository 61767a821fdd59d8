"""Conditions that nobody has asked before are compiled in slices, so that others are served in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from catalog.conditions import Field, FieldKind
from catalog.plan import Planner
from catalog.routing import Routing, Rule, Share
from catalog.view import Revision

NOBODY = Revision("rev_1", "1.0", "salt", ())


def revision(conditions: int) -> Revision:
    rules = tuple(
        Rule(f"rul_{number}", "", f'context.country == "{number:050}" || present.country', True, (Share("var_1", 1),))
        for number in range(conditions)
    )
    return replace(NOBODY, routing=Routing((Field("country", FieldKind.STRING),), rules))


async def test_others_go_on_while_many_conditions_are_compiled() -> None:
    planner, turns = Planner(), 0
    wanted = revision(150)
    preparing = asyncio.create_task(planner.prepare(wanted))
    while not preparing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 3
    begun = asyncio.create_task(planner.prepare(wanted))
    await asyncio.sleep(0)
    assert begun.done(), "once is enough"
