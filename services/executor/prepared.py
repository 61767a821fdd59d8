"""Versions made ready to run, once each, while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from catalog import view
from completions.chat import Message
from completions.template import CompiledMessages
from kit.errors import Precondition
from services.executor.ports import Provider, Versions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version, ready for any number of calls."""

    uid: str
    provider: str
    """uid."""
    kind: view.ProviderKind
    model: str
    templates: tuple[Message, ...]
    compiled: CompiledMessages
    body: bytes = field(repr=False)
    """What the provider's adapter made of it."""


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
            provider = seen.provider(prepared.provider)
            # A version is immutable, but its provider is not.
            if provider is not None and provider.kind is prepared.kind:
                self._kept.move_to_end((project, uid))
                return prepared, provider
        prepared, provider = self._prepare(seen, project, uid)
        self._kept[project, uid] = prepared
        self._kept.move_to_end((project, uid))
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return prepared, provider

    def _prepare(self, seen: view.View, project: str, uid: str) -> tuple[Prepared, view.Provider]:
        packed = seen.version(project, uid)
        if packed is None:
            raise Precondition(
                f"the version {uid} is not in the catalog; write the variant again", reason="VERSION_NOT_FOUND"
            )
        version = self._versions.unpack(packed.packed)
        provider = seen.provider(version.provider)
        if provider is None or provider.project != project:
            raise Precondition(
                f"the provider {version.provider} of the version {uid} is not in the catalog; write the variant again",
                reason="PROVIDER_NOT_FOUND",
            )
        prepared = Prepared(
            uid=uid,
            provider=provider.uid,
            kind=provider.kind,
            model=version.model,
            templates=version.messages,
            compiled=CompiledMessages(version.messages),
            body=self._providers[provider.kind].prepare(version, provider.kind),
        )
        return prepared, provider
