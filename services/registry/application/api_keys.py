"""Use cases of API keys."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kit.errors import Exists, Invalid, Violation
from kit.paging import Page
from services.registry.application.access import (
    ListRequest,
    Written,
    caller_name,
    find_project_or_platform,
    found_page,
    remember,
    requested_page,
    tenant_of,
)
from services.registry.domain import PLATFORM, ApiKey, ApiKeyDraft, Caller, Record, key_name, missing, violated
from services.registry.ports import Clock, Mint, Store, Write

_CREATE = "CreateApiKey"


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A key at the only moment at which its text is known."""

    key: ApiKey
    text: str
    """Empty if it was not written."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Who may call."""

    store: Store
    mint: Mint
    now: Clock

    async def create_api_key(
        self, caller: Caller, project_segment: str, draft: ApiKeyDraft, write: Write
    ) -> Written[CreatedKey]:
        """
        :raises Exists: `API_KEY_EXISTS` for a request id that made one: its text cannot be shown again
        :raises Invalid: `SCOPE_UNKNOWN`, `EXPIRE_TIME_PAST`
        """
        now = self.now()
        self._check_scopes(draft, platform=project_segment == PLATFORM)
        if draft.expires_at is not None and draft.expires_at <= now:
            raise violated("EXPIRE_TIME_PAST", "api_key.expire_time", "must lie in the future")
        async with self.store.writing(is_dry=write.is_dry) as tx:
            project = await find_project_or_platform(tx, caller, project_segment)
            if write.request_id and (found := await tx.repeat_of(tenant_of(project), _CREATE, write.request_id)):
                name = key_name(project, found.resource)
                raise Exists(
                    f"this request made the key {name}, which was shown then; revoke it if it was lost",
                    reason="API_KEY_EXISTS",
                    resource=name,
                )
            minted = self.mint.new_key()
            key = ApiKey(
                uid=minted.uid,
                project=project,
                display_name=draft.display_name,
                scopes=tuple(sorted(draft.scopes)),
                secret_hash=minted.secret_hash,
                creator=key_name(None, caller.key) if project is None else caller_name(caller, project),
                expires_at=draft.expires_at,
                revoked_at=None,
                record=Record(now, now, tx.sequence, tx.sequence),
            )
            await tx.add_api_key(key)
            await remember(tx, write, _CREATE, project, key.uid, now)
            await tx.announce([key])
        if write.is_dry:
            return Written(CreatedKey(key, ""), 0)
        return Written(CreatedKey(key, minted.text), tx.sequence)

    async def get_api_key(self, caller: Caller, project_segment: str, uid: str) -> ApiKey:
        """:raises NotFound: `API_KEY_NOT_FOUND`"""
        async with self.store.reading() as tx:
            project = await find_project_or_platform(tx, caller, project_segment)
            found = await tx.api_key(project, uid)
            if found is None:
                raise missing("api key", f"projects/{project_segment}/apiKeys/{uid}")
            return found

    async def list_api_keys(self, caller: Caller, project_segment: str, request: ListRequest) -> Page[ApiKey]:
        """A project's, oldest first, revoked ones included."""
        async with self.store.reading() as tx:
            project = await find_project_or_platform(tx, caller, project_segment)
            subject = f"api keys of {tenant_of(project) or PLATFORM}"
            asked = requested_page(request, subject)
            return found_page(list(await tx.api_keys(project, asked)), asked, subject)

    async def revoke_api_key(self, caller: Caller, project_segment: str, uid: str) -> Written[ApiKey]:
        """Stops it for ever; a second time changes nothing.

        :raises NotFound: `API_KEY_NOT_FOUND`
        """
        async with self.store.writing() as tx:
            project = await find_project_or_platform(tx, caller, project_segment)
            found = await tx.api_key(project, uid)
            if found is None:
                raise missing("api key", f"projects/{project_segment}/apiKeys/{uid}")
            if found.revoked_at is not None:
                return Written(found, found.record.changed_in)
            now = self.now()
            record = replace(found.record, updated_at=now, changed_in=tx.sequence)
            revoked = replace(found, revoked_at=now, record=record)
            await tx.replace_api_key(revoked)
            await tx.announce([revoked])
        return Written(revoked, tx.sequence)

    def _check_scopes(self, draft: ApiKeyDraft, *, platform: bool) -> None:
        try:
            self.mint.check_scopes(frozenset(draft.scopes), platform=platform)
        except Invalid as error:
            where = (Violation("api_key.scopes", error.message),)
            raise Invalid(error.message, reason=error.reason, violations=where) from None
