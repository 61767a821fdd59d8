"""Use case of what calls ran: keep it, so that it can be looked up and deployed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from completions.version import Version as Content
from completions.version import version_id
from kit.errors import Invalid
from services.registry.application.configurations import identified
from services.registry.domain import Provider, Sighting, Version
from services.registry.ports import Clock, Reading, Store, VersionKey


class Misnamed(Exception):
    """Some sightings are not of the version that they name, or of none that can be. Nothing has happened.

    :param found: their places in what was given, each with an UPPER_SNAKE reason
    """

    def __init__(self, found: Sequence[tuple[int, str]]) -> None:
        super().__init__(", ".join(sorted({reason for _, reason in found})))
        self.found = tuple(found)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of sightings."""

    stored: int = 0
    """Of versions that were not known."""
    known: int = 0
    """Of versions that were, or that another sighting made so."""
    homeless: int = 0
    """Of a project, or a provider of it, that does not exist."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """The versions that calls make known."""

    store: Store
    now: Clock

    async def take(self, seen: Sequence[Sighting]) -> Taken:
        """Store the versions that are new, in one change of the log, and note of all when they were last run.

        Any order and any repetition lead to the same. A time to come counts as now.

        :raises Misnamed: nothing has happened; without those that it names, the rest can be taken
        :raises Unavailable: the database is not there; what has happened may be repeated
        :raises Conflict: another transaction was in the way; the same
        """
        async with self.store.reading() as tx:
            providers = await _providers(tx, seen)
            known = await tx.known_versions({sighting.key for sighting in seen})
        now = self.now()
        found: dict[VersionKey, Version] = {}
        wrong: list[tuple[int, str]] = []
        homeless = 0
        for index, sighting in enumerate(seen):
            provider = providers[sighting.project, sighting.content.provider]
            if provider is None:
                homeless += 1
                continue
            try:
                # In a thread: a large template takes some 100 ms to read, and calls wait meanwhile.
                content = await asyncio.to_thread(checked, sighting, provider, is_known=sighting.key in known)
            except Invalid as error:
                wrong.append((index, error.reason))
                continue
            seen_at = min(sighting.seen_at, now)
            if sighting.key in found:
                seen_at = max(seen_at, found[sighting.key].seen_at)
            found[sighting.key] = Version(sighting.version, provider.project, provider.uid, content, now, 0, seen_at)
        if wrong:
            raise Misnamed(wrong)
        stored = await self._store(found)
        return Taken(stored, len(seen) - stored - homeless, homeless)

    async def _store(self, found: Mapping[VersionKey, Version]) -> int:
        """:return: how many were new"""
        if not found:
            return 0
        times = {key: version.seen_at for key, version in found.items()}
        async with self.store.noting() as tx:
            touched = await tx.touch_versions(times)
        if len(touched) == len(times):
            return 0
        missing = _without(times, touched)
        async with self.store.writing() as tx:
            # Again: somebody may have put them meanwhile.
            fresh = _without(missing, await tx.touch_versions(missing))
            for key in fresh:
                await tx.add_version(replace(found[key], created_in=tx.sequence))
            if fresh:
                await tx.announce([])
        return len(fresh)


def checked(sighting: Sighting, provider: Provider, *, is_known: bool) -> Content:
    """The complete configuration of a sighting, with the provider's slug, if it is the version that it is said to be.

    :param is_known: whether a version with its uid is stored: equal content was checked then
    :raises Invalid: `VERSION_ID_WRONG`, and as :func:`configurations.completed`
    """
    content = replace(sighting.content, provider=provider.slug)
    if is_known and version_id(content) == sighting.version:
        return content
    complete = identified(content, field="version")
    if complete.uid != sighting.version:
        raise Invalid("the content has another id than it is said to have", reason="VERSION_ID_WRONG")
    return complete.content


async def _providers(tx: Reading, seen: Iterable[Sighting]) -> dict[tuple[str, str], Provider | None]:
    """Those that sightings name, by the uids of project and provider."""
    found: dict[tuple[str, str], Provider | None] = {}
    for project_uid, provider_uid in {(sighting.project, sighting.content.provider) for sighting in seen}:
        project = await tx.project(project_uid)
        provider = None
        if project is not None and project.uid == project_uid:
            provider = await tx.provider(project, provider_uid)
        # What runs never goes by slugs: a name that looks like one is another's mistake.
        is_there = provider is not None and provider.uid == provider_uid
        found[project_uid, provider_uid] = provider if is_there else None
    return found


def _without(times: Mapping[VersionKey, datetime], known: set[VersionKey]) -> dict[VersionKey, datetime]:
    return {key: time for key, time in times.items() if key not in known}
