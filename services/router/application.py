"""Routing: a decision alone, by the rules that run where calls are served."""

from __future__ import annotations

from dataclasses import dataclass

from catalog import plan, targets
from catalog.plan import Decision
from services.router.ports import Ids, Views


@dataclass(frozen=True, slots=True)
class Router:
    """Decides."""

    catalog: Views
    new_uid: Ids

    def route(
        self, deployment: str, *, routing_key: str, identity: str, thread: str, user: str, tenant: str
    ) -> Decision:
        """Which variant serves a call to `deployment` with these keys, at the newest state that is known here.

        A call that gives no key is decided as one call of many would be: by a request id of its own.

        :param tenant: uid of the project whose key calls; empty for platform keys
        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `PROJECT_NOT_FOUND`
        :raises Invalid: `TARGET_NEEDS_PROJECT`, `ROUTING_KEY_NOT_TEXT`
        :raises Precondition: `NO_ACTIVE_VARIANT`
        """
        target = targets.resolve(self.catalog.usable_view(), deployment, tenant=tenant)
        key_kind, key = plan.choose_key(
            request_id=self.new_uid("req"), routing_key=routing_key, identity=identity, thread=thread, user=user
        )
        return plan.decide(target, key_kind, key)
