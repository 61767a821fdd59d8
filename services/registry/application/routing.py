"""How calls find their variants: what is looked at before a write, and within it."""

from __future__ import annotations

import asyncio
from typing import Final

from kit.errors import Precondition
from services.registry import domain
from services.registry.domain import Deployment, Revision, RoutingDraft, Variant

FIELD: Final = "deployment.routing"
"""Where requests have it."""


async def check_routing(draft: RoutingDraft | None) -> None:
    """What is wrong whatever the deployment is. Comes before the transaction: others wait for that.

    :raises Invalid: as :func:`domain.check_routing`
    """
    if draft is not None and draft != domain.NO_ROUTING:
        # In a thread: many long conditions take some 100 ms.
        await asyncio.to_thread(domain.check_routing, draft, field=FIELD)


def check_unused(deployment: Deployment, base: Revision, variant: Variant) -> None:
    """Whether a variant can go.

    :param base: the revision that it would go from
    :raises Precondition: `VARIANT_IN_USE` if the routing names it
    """
    users = domain.users_of(base.routing, variant.uid)
    if users:
        raise Precondition(
            f"{deployment.name}/variants/{variant.slug} is used by {domain.in_words(users)} of revision {base.number}; "
            "update the routing first",
            reason="VARIANT_IN_USE",
            resource=f"{deployment.name}/variants/{variant.slug}",
        )
