"""Use cases of providers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kit.errors import Denied
from kit.paging import Page
from services.registry import domain
from services.registry.application.access import (
    MAX_ANSWER_BYTES,
    ListRequest,
    Written,
    bounded_page,
    check_etag,
    cursor_of,
    find_project,
    remember,
    repeat_of,
    requested_page,
    reused,
)
from services.registry.application.archives import check_unused
from services.registry.domain import Caller, Provider, ProviderChange, ProviderDraft, Record, missing
from services.registry.ports import Clock, NewUid, Reading, Store, UrlCheck, Vault, Write

_CREATE = "CreateProvider"


@dataclass(frozen=True, slots=True)
class Providers:
    """The places that run LLMs."""

    store: Store
    vault: Vault
    check_url: UrlCheck
    now: Clock
    new_uid: NewUid

    async def create_provider(
        self, caller: Caller, project_segment: str, draft: ProviderDraft, write: Write
    ) -> Written[Provider]:
        """
        :raises Exists: `PROVIDER_EXISTS`
        :raises Invalid: `SLUG_INVALID`, `BASE_URL_REQUIRED`, `BASE_URL_INVALID`, `EGRESS_URL_INVALID`,
            `CREDENTIAL_INVALID`, `MODEL_FACTS_DUPLICATE`, `MODEL_FACTS_TOO_LARGE`
        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`
        """
        domain.check_slug(draft.slug, field="provider_id")
        base_url = domain.base_url(draft.kind, draft.base_url)
        self.check_url(base_url, field="provider.base_url")
        if draft.credential is not None:
            domain.check_credential(draft.credential)
        domain.check_model_facts(draft.model_facts)
        async with self.store.writing(is_dry=write.is_dry) as tx:
            project = await find_project(tx, caller, project_segment)
            if repeated := await repeat_of(tx, write, _CREATE, project):
                found = await tx.provider(project, repeated)
                if found is None:
                    raise missing("provider", f"{project.name}/providers/{repeated}")
                self._check_same_credential(found, draft)
                return Written(found, found.record.changed_in)
            now, uid = self.now(), self.new_uid("prv")
            provider = Provider(
                uid=uid,
                project=project,
                slug=draft.slug,
                kind=draft.kind,
                display_name=draft.display_name or draft.slug,
                base_url=base_url,
                envelope=None if draft.credential is None else self.vault.seal(draft.credential, provider=uid),
                record=Record(now, now, tx.sequence, tx.sequence),
                model_facts=draft.model_facts,
                max_concurrent_calls=draft.max_concurrent_calls,
            )
            await tx.add_provider(provider)
            await remember(tx, write, _CREATE, project, uid, now)
            await tx.announce([provider])
        return Written(provider, 0 if write.is_dry else tx.sequence)

    async def update_provider(
        self,
        caller: Caller,
        project_segment: str,
        segment: str,
        change: ProviderChange,
        *,
        etag: str,
        is_dry: bool = False,
    ) -> Written[Provider]:
        """
        :param etag: the provider's as the caller knows it; empty for whatever it is now
        :raises NotFound: `PROVIDER_NOT_FOUND`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Invalid: `CREDENTIAL_REQUIRED`, and as :meth:`create_provider`
        :raises Denied: `APPROVAL_REQUIRED` where callers of a protected deployment would meet it
        """
        async with self.store.writing(is_dry=is_dry) as tx:
            found = await find_provider(tx, caller, project_segment, segment)
            check_etag(found, etag)
            changed = self._changed(found, change)
            if changed == found:
                return Written(found, found.record.changed_in)
            if (changed.base_url, changed.envelope) != (found.base_url, found.envelope):
                await _check_unprotected(tx, caller, found)
            record = replace(found.record, updated_at=self.now(), changed_in=tx.sequence)
            changed = replace(changed, record=record)
            await tx.replace_provider(changed)
            await tx.announce([changed] if changed.archived_at is None else [])
        return Written(changed, 0 if is_dry else tx.sequence)

    async def archive_provider(
        self, caller: Caller, project_segment: str, segment: str, *, etag: str, archived: bool
    ) -> Written[Provider]:
        """Take it out of use, or bring it back. An archived one is not in the catalog, nor is its credential.

        :raises NotFound: `PROVIDER_NOT_FOUND`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Precondition: `PROVIDER_IN_USE`
        """
        async with self.store.writing() as tx:
            found = await find_provider(tx, caller, project_segment, segment)
            check_etag(found, etag)
            if (found.archived_at is not None) is archived:
                return Written(found, found.record.changed_in)
            if archived:
                await check_unused(tx, found.project, found)
            now = self.now()
            record = replace(found.record, updated_at=now, changed_in=tx.sequence)
            changed = replace(found, archived_at=now if archived else None, record=record)
            await tx.replace_provider(changed)
            await tx.announce([] if archived else [changed], [changed] if archived else [])
        return Written(changed, tx.sequence)

    def _changed(self, provider: Provider, change: ProviderChange) -> Provider:
        base_url, envelope = provider.base_url, provider.envelope
        if change.base_url is not None:
            base_url = domain.base_url(provider.kind, change.base_url)
            self.check_url(base_url, field="provider.base_url")
            if not change.changes_credential:
                domain.check_credential_goes_along(provider, base_url)
        if change.changes_credential:
            new = change.credential
            if new is not None:
                domain.check_credential(new)
            envelope = None if new is None else self.vault.seal(new, provider=provider.uid)
        name = provider.display_name if change.display_name is None else change.display_name or provider.slug
        facts = provider.model_facts
        if change.model_facts is not None:
            facts = change.model_facts
            domain.check_model_facts(facts)
        bound = provider.max_concurrent_calls if change.max_concurrent_calls is None else change.max_concurrent_calls
        return replace(
            provider,
            display_name=name,
            base_url=base_url,
            envelope=envelope,
            model_facts=facts,
            max_concurrent_calls=bound,
        )

    def _check_same_credential(self, provider: Provider, draft: ProviderDraft) -> None:
        # A credential is in no fingerprint: a hash of it would be a way to guess it.
        if provider.envelope is None or draft.credential is None:
            same = provider.envelope is None and draft.credential is None
        else:
            same = self.vault.holds(provider.envelope, draft.credential, provider=provider.uid)
        if not same:
            raise reused()

    async def get_provider(self, caller: Caller, project_segment: str, segment: str) -> Provider:
        """:raises NotFound: `PROVIDER_NOT_FOUND`"""
        async with self.store.reading() as tx:
            return await find_provider(tx, caller, project_segment, segment)

    async def list_providers(
        self, caller: Caller, project_segment: str, request: ListRequest, *, with_archived: bool = False
    ) -> Page[Provider]:
        """A project's, oldest first."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            subject = f"providers of {project.uid}{' and archived ones' if with_archived else ''}"
            asked = requested_page(request, subject)
            found, has_more = await tx.providers(
                project, asked, with_archived=with_archived, max_bytes=MAX_ANSWER_BYTES
            )
        return bounded_page(found, cursor_of(found[-1]) if has_more else (), subject, has_more=has_more)


async def find_provider(tx: Reading, caller: Caller, project_segment: str, segment: str) -> Provider:
    """:raises NotFound: `PROJECT_NOT_FOUND`, `PROVIDER_NOT_FOUND`"""
    project = await find_project(tx, caller, project_segment)
    found = await tx.provider(project, segment)
    if found is None:
        raise missing("provider", f"projects/{project_segment}/providers/{segment}")
    return found


async def _check_unprotected(tx: Reading, caller: Caller, provider: Provider) -> None:
    """Refuse what would send the calls of a protected deployment elsewhere without anybody's approval.

    :raises Denied: `APPROVAL_REQUIRED`
    """
    if caller.may_approve:
        return
    for use in await tx.uses(provider.project, provider, 1, only_protected=True):
        raise Denied(
            f"{use.deployment} is protected and its alias {use.alias} uses {provider.name}: its base_url and "
            f"credential can be changed by keys with the scope {domain.APPROVE} only",
            reason="APPROVAL_REQUIRED",
            resource=use.deployment,
            scope=domain.APPROVE,
        )
