"""Use cases of API keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from kit.errors import Exists, Invalid, Precondition, Violation
from kit.paging import Page
from services.registry.application.access import (
    ListRequest,
    Written,
    caller_name,
    check_etag,
    find_project_or_platform,
    found_page,
    remember,
    repeat_of,
    requested_page,
    tenant_of,
)
from services.registry.domain import (
    PLATFORM,
    ApiKey,
    ApiKeyChange,
    ApiKeyDraft,
    Caller,
    Record,
    key_name,
    missing,
    violated,
)
from services.registry.ports import Clock, Mint, Reading, Store, Write

_CREATE = "CreateApiKey"
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


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
        :raises Exists: `API_KEY_EXISTS` for a request that made one: its text cannot be shown again
        :raises Invalid: `DISPLAY_NAME_REQUIRED`, `SCOPES_REQUIRED`, `SCOPE_UNKNOWN`, `EXPIRE_TIME_PAST`,
            `REQUEST_ID_REUSED`
        """
        now = self.now()
        _check_display_name(draft.display_name)
        self._check_scopes(draft.scopes, platform=project_segment == PLATFORM)
        _check_expiry(draft.expires_at, now)
        async with self.store.writing(is_dry=write.is_dry) as tx:
            project = await find_project_or_platform(tx, caller, project_segment)
            if made := await repeat_of(tx, write, _CREATE, project):
                name = key_name(project, made)
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
                requests_per_minute=draft.requests_per_minute,
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
            return await _find(tx, caller, project_segment, uid)

    async def list_api_keys(self, caller: Caller, project_segment: str, request: ListRequest) -> Page[ApiKey]:
        """A project's, oldest first, revoked ones included."""
        async with self.store.reading() as tx:
            project = await find_project_or_platform(tx, caller, project_segment)
            subject = f"api keys of {tenant_of(project) or PLATFORM}"
            asked = requested_page(request, subject)
            return found_page(list(await tx.api_keys(project, asked)), asked, subject)

    async def update_api_key(
        self, caller: Caller, project_segment: str, uid: str, wanted: ApiKeyChange, *, etag: str, is_dry: bool
    ) -> Written[ApiKey]:
        """What it is called, what it may do, until when and how often. An update that changes nothing writes nothing.

        :raises NotFound: `API_KEY_NOT_FOUND`
        :raises Precondition: `API_KEY_REVOKED`, `API_KEY_FROM_SETTING`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Invalid: as :meth:`create_api_key`
        """
        now = self.now()
        if wanted.display_name is not None:
            _check_display_name(wanted.display_name)
        if wanted.scopes is not None:
            self._check_scopes(wanted.scopes, platform=project_segment == PLATFORM)
        async with self.store.writing(is_dry=is_dry) as tx:
            found = await _find(tx, caller, project_segment, uid)
            _check_changeable(found)
            check_etag(found, etag)
            changed = replace(
                found,
                display_name=found.display_name if wanted.display_name is None else wanted.display_name,
                scopes=found.scopes if wanted.scopes is None else tuple(sorted(wanted.scopes)),
                expires_at=wanted.expires_at if wanted.changes_expiry else found.expires_at,
                requests_per_minute=found.requests_per_minute
                if wanted.requests_per_minute is None
                else wanted.requests_per_minute,
            )
            if changed == found:
                return Written(found, 0 if is_dry else found.record.changed_in)
            if changed.expires_at != found.expires_at:
                _check_expiry(changed.expires_at, now)
            sides = [(key.scopes, key.expires_at, key.requests_per_minute) for key in (changed, found)]
            seen_by_followers = sides[0] != sides[1]
            changed = replace(changed, record=replace(found.record, updated_at=now, changed_in=tx.sequence))
            await tx.replace_api_key(changed)
            await tx.announce([changed] if seen_by_followers else [])
        return Written(changed, 0 if is_dry else tx.sequence)

    async def report_key_uses(self, uses: Iterable[tuple[str, datetime]]) -> None:
        """Keep when keys were last used, as a service saw it: no change of a key, so no change of the log.

        :param uses: of keys by uid; times in the future count as now, and keys that are none do not count
        """
        now, latest = self.now(), dict[str, datetime]()
        for uid, used_at in uses:
            latest[uid] = max(min(used_at, now), latest.get(uid, _NEVER))
        if latest:
            async with self.store.noting() as tx:
                await tx.note_key_uses(latest)

    async def revoke_api_key(self, caller: Caller, project_segment: str, uid: str) -> Written[ApiKey]:
        """Stops it for ever; a second time changes nothing.

        :raises NotFound: `API_KEY_NOT_FOUND`
        """
        async with self.store.writing() as tx:
            found = await _find(tx, caller, project_segment, uid)
            if found.revoked_at is not None:
                return Written(found, found.record.changed_in)
            now = self.now()
            record = replace(found.record, updated_at=now, changed_in=tx.sequence)
            revoked = replace(found, revoked_at=now, record=record)
            await tx.replace_api_key(revoked)
            await tx.announce([revoked])
        return Written(revoked, tx.sequence)

    def _check_scopes(self, scopes: Sequence[str], *, platform: bool) -> None:
        if not scopes:
            raise violated("SCOPES_REQUIRED", "api_key.scopes", "must name at least one")
        try:
            self.mint.check_scopes(frozenset(scopes), platform=platform)
        except Invalid as error:
            where = (Violation("api_key.scopes", error.message),)
            raise Invalid(error.message, reason=error.reason, violations=where) from None


async def _find(tx: Reading, caller: Caller, project_segment: str, uid: str) -> ApiKey:
    project = await find_project_or_platform(tx, caller, project_segment)
    found = await tx.api_key(project, uid)
    if found is None:
        raise missing("api key", f"projects/{project_segment}/apiKeys/{uid}")
    return found


def _check_display_name(text: str) -> None:
    if not text.strip():
        raise violated("DISPLAY_NAME_REQUIRED", "api_key.display_name", "is required: say whose key it is")


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise violated("EXPIRE_TIME_PAST", "api_key.expire_time", "must lie in the future")


def _check_changeable(key: ApiKey) -> None:
    if key.revoked_at is not None:
        raise Precondition(
            f"{key.name} is revoked, which is for ever; make a new key", reason="API_KEY_REVOKED", resource=key.name
        )
    if key.bootstrap:
        raise Precondition(
            f"{key.name} comes from the setting {key.bootstrap}, which says what it may do; make another key",
            reason="API_KEY_FROM_SETTING",
            resource=key.name,
        )
