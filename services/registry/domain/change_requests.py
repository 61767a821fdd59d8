"""Changes of protected deployments that wait for approval. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from kit.errors import Conflict, Denied, Precondition
from services.registry.domain.deployments import Deployment

APPROVE = "deployments:approve"
"""The scope of keys that change protected deployments, and approve what others would change."""


class ChangeRequestState(StrEnum):
    """What became of it."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Never stored: pending, and its time is over."""


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """The wish that an alias points to a revision."""

    uid: str
    deployment: str
    """Its uid."""
    deployment_name: str
    alias: str
    base: str
    """The uid of the revision that the alias pointed to; empty if there was no such alias."""
    base_number: str
    revision: str
    """The uid of the revision that it would point to."""
    revision_number: str
    retains_contract: bool
    description: str
    author: str
    created_at: datetime
    expires_at: datetime
    created_in: int
    state: ChangeRequestState = ChangeRequestState.PENDING
    decider: str = ""
    decided_at: datetime | None = None
    decision_note: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.deployment_name}/changeRequests/{self.uid}"

    def state_at(self, now: datetime) -> ChangeRequestState:
        """What has become of it."""
        if self.state is ChangeRequestState.PENDING and now >= self.expires_at:
            return ChangeRequestState.EXPIRED
        return self.state

    def decided(self, state: ChangeRequestState, decider: str, note: str, now: datetime) -> ChangeRequest:
        """After a decision.

        :param decider: the resource name of a key
        :raises Precondition: `CHANGE_REQUEST_DECIDED`, `CHANGE_REQUEST_EXPIRED`
        :raises Denied: `APPROVAL_BY_AUTHOR`, `NOT_THE_AUTHOR`
        """
        current = self.state_at(now)
        if current is ChangeRequestState.EXPIRED:
            raise Precondition(
                f"{self.name} expired at {self.expires_at:%Y-%m-%d %H:%M} UTC; make the change again",
                reason="CHANGE_REQUEST_EXPIRED",
                resource=self.name,
            )
        if current is not ChangeRequestState.PENDING:
            raise Precondition(
                f"{self.name} is {current} already", reason="CHANGE_REQUEST_DECIDED", resource=self.name, state=current
            )
        if state is ChangeRequestState.APPROVED and decider == self.author:
            raise Denied(
                "a change is approved by another key than the one that asked for it",
                reason="APPROVAL_BY_AUTHOR",
                resource=self.name,
            )
        if state is ChangeRequestState.CANCELLED and decider != self.author:
            raise Denied(
                "only the key that asked for a change cancels it; RejectChangeRequest turns it down",
                reason="NOT_THE_AUTHOR",
                resource=self.name,
            )
        return replace(self, state=state, decider=decider, decided_at=now, decision_note=note)

    def check_base(self, deployment: Deployment) -> None:
        """Whether the alias still points to what it pointed to when the change was asked for.

        :raises Conflict: `BASE_MOVED`
        """
        pointed = {each.alias: each.revision for each in deployment.aliases}
        if pointed.get(self.alias, "") != self.base:
            raise Conflict(
                f"{deployment.name}:{self.alias} has moved since the change was asked for: make it again",
                reason="BASE_MOVED",
                resource=self.name,
            )


def approval_required(deployment: Deployment, what: str) -> Denied:
    """What has no change request, and only keys with `deployments:approve` may do.

    :param what: such as `be archived`
    """
    return Denied(
        f"{deployment.name} is protected: it can {what} by keys with the scope {APPROVE} only",
        reason="APPROVAL_REQUIRED",
        resource=deployment.name,
        scope=APPROVE,
    )
