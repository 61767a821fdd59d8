"""Versions made ready to run, once each, while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from catalog import view
from completions.template import CompiledMessages
from completions.version import Version
from kit.errors import Precondition
from kit.json import dump
from services.executor.ports import Provider, Versions

_MAX_FALLBACK_BODIES: Final = 32


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version, ready for any number of calls."""

    uid: str
    version: Version = field(repr=False)
    """Its provider is a uid."""
    kind: view.ProviderKind
    compiled: CompiledMessages
    body: bytes = field(repr=False)
    """What the provider's adapter made of it."""
    tools_text: str = field(repr=False)
    """What its tools add to a prompt."""
    fallback_bodies: dict[tuple[view.Fallback, view.ProviderKind], bytes] = field(repr=False)
    """The same for fallbacks, as they are asked for."""


class PreparedVersions:
    """An LRU of prepared versions: unpacking and compiling one takes milliseconds, using it microseconds.

    :param limit: how many are kept
    """

    def __init__(self, versions: Versions, providers: Mapping[view.ProviderKind, Provider], limit: int) -> None:
        self._versions = versions
        self._providers = providers
        self._limit = limit
        self._kept: OrderedDict[tuple[str, str], Prepared] = OrderedDict()

    def get(self, seen: view.View, project: str, uid: str) -> tuple[Prepared, view.Provider]:
        """A version of a project and the provider that it names, both as one view has them.

        :raises Precondition: `VERSION_NOT_FOUND` or `PROVIDER_NOT_FOUND`: the registry keeps what is in use, so either
            means that this view is damaged
        """
        prepared = self._kept.get((project, uid))
        if prepared is not None:
            provider = seen.provider(prepared.version.provider)
            # A version is immutable, but its provider is not.
            if provider is not None and provider.kind is prepared.kind:
                self._kept.move_to_end((project, uid))
                return prepared, provider
        version = self._unpacked(seen, project, uid)
        provider = seen.provider(version.provider)
        if provider is None or provider.project != project:
            raise Precondition(
                f"the provider {version.provider} of the version {uid} is not in the catalog; write the variant again",
                reason="PROVIDER_NOT_FOUND",
            )
        return self.made(project, uid, version, provider), provider

    def made(self, project: str, uid: str, version: Version, provider: view.Provider) -> Prepared:
        """A version that need not be in the catalog.

        :param version: its provider is the uid of `provider`
        """
        prepared = self._kept.get((project, uid))
        if prepared is None or prepared.kind is not provider.kind:
            prepared = Prepared(
                uid=uid,
                version=version,
                kind=provider.kind,
                compiled=CompiledMessages(version.messages),
                body=self._providers[provider.kind].prepare(version, provider.kind),
                tools_text=dump(version.tools) if version.tools else "",
                fallback_bodies={},
            )
            self._kept[project, uid] = prepared
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end((project, uid))
        return prepared

    def fallback_body(self, prepared: Prepared, fallback: view.Fallback, kind: view.ProviderKind) -> bytes:
        """What a fallback's adapter makes of the version: its own model, its own parameters if it has some, and the
        same tools and response format."""
        bodies = prepared.fallback_bodies
        body = bodies.get((fallback, kind))
        if body is None:
            parameters = prepared.version.parameters
            if fallback.parameters is not None:
                parameters = self._versions.unpack_parameters(fallback.parameters)
            version = replace(prepared.version, model=fallback.model, parameters=parameters)
            if len(bodies) >= _MAX_FALLBACK_BODIES:
                # A variant's fallbacks changed often while its version did not.
                bodies.clear()
            body = bodies[fallback, kind] = self._providers[kind].prepare(version, kind)
        return body

    def _unpacked(self, seen: view.View, project: str, uid: str) -> Version:
        packed = seen.version(project, uid)
        if packed is None:
            raise Precondition(
                f"the version {uid} is not in the catalog; write the variant again", reason="VERSION_NOT_FOUND"
            )
        return self._versions.unpack(packed.packed)
