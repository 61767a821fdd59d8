"""Versions made ready to run, once each, while they are in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from catalog import view
from completions.template import CompiledMessages
from completions.version import Parameters, Version
from kit.errors import Precondition
from kit.json import dump
from kit.lru import Lru
from services.executor import inputs
from services.executor.domain import Overrides, Unread
from services.executor.ports import OutputCheck, OutputChecks, Provider, Versions

_MAX_FALLBACK_BODIES: Final = 32
_BYTES_PER_CHARACTER: Final = 16
"""Of a template, compiled: between 1 (no expressions) and 17 (nothing but short expressions) were measured."""


class Body(NamedTuple):
    """What a provider's adapter made of a version, and what that leaves for the answer."""

    prepared: bytes
    answer_tokens: int
    """The most that the model may write; 0 if it is not told."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version, ready for any number of calls."""

    uid: str
    version: Version = field(repr=False)
    """Its provider is a uid."""
    kind: view.ProviderKind
    takes: view.StructuredOutput
    """What its model takes of a response format."""
    compiled: CompiledMessages
    body: Body = field(repr=False)
    tools_text: str = field(repr=False)
    """What its tools and its response format add to a prompt."""
    output: OutputCheck | None
    """What its answers are held against; None if anything will do."""
    fallback_bodies: dict[tuple[view.Fallback, view.ProviderKind, view.StructuredOutput], Body] = field(repr=False)
    """The same as `body` for fallbacks, as they are asked for."""
    over: Parameters | None = field(default=None, repr=False)
    """What a call laid over the parameters: it wins over those of fallbacks, too."""


class PreparedVersions:
    """An LRU of prepared versions: unpacking and compiling one takes milliseconds, using it microseconds.

    :param max_versions: how many are kept
    :param max_bytes: about what they may hold in memory
    """

    def __init__(
        self,
        versions: Versions,
        providers: Mapping[view.ProviderKind, Provider],
        outputs: OutputChecks,
        *,
        max_versions: int,
        max_bytes: int,
    ) -> None:
        self._versions = versions
        self._providers = providers
        self._outputs = outputs
        self._kept: Lru[tuple[str, object], Prepared] = Lru(max_entries=max_versions, max_bytes=max_bytes)

    def get(self, seen: view.View, project: str, uid: str) -> tuple[Prepared, view.Provider]:
        """A version of a project and the provider that it names, both as one view has them.

        :raises Precondition: `VERSION_NOT_FOUND` or `PROVIDER_NOT_FOUND`: the registry keeps what is in use, so either
            means that this view is damaged
        """
        prepared = self._kept.get((project, uid))
        if prepared is not None:
            provider = seen.provider(prepared.version.provider)
            # A version is immutable, but its provider is not.
            if (
                provider is not None
                and provider.kind is prepared.kind
                and _taken_by(provider, prepared.version.model) is prepared.takes
            ):
                return prepared, provider
        version = self._unpacked(seen, project, uid)
        provider = seen.provider(version.provider)
        if provider is None or provider.project != project:
            raise Precondition(
                f"the provider {version.provider} of the version {uid} is not in the catalog; write the variant again",
                reason="PROVIDER_NOT_FOUND",
            )
        prepared = self._made(uid, version, provider)
        self._kept.put((project, uid), prepared, size_bytes=_size_bytes(prepared))
        return prepared, provider

    def of_call(
        self,
        project: str,
        given: tuple[object, ...],
        provider: view.Provider,
        make: Callable[[], tuple[str, Version]],
        overrides: Unread | None = None,
    ) -> Prepared:
        """A version that calls bring along, which need not be in the catalog. The same is often brought again, so it is
        checked and named once.

        :param given: all that the version depends on, with the project and the provider's kind
        :param make: checks it and answers its id and the version, whose provider is the uid of `provider`
        :param overrides: what was laid over a version to make it, if that is how it was made
        """
        key = (project, (*given, provider.uid, provider.kind))
        prepared = self._kept.get(key)
        if prepared is None or _taken_by(provider, prepared.version.model) is not prepared.takes:
            prepared = self._made(*make(), provider, None if overrides is None else overrides.read().parameters)
            size = _size_bytes(prepared) + sum(len(each) for each in given if isinstance(each, (bytes, str)))
            self._kept.put(key, prepared, size_bytes=size)
        return prepared

    def fallback_body(self, prepared: Prepared, fallback: view.Fallback, provider: view.Provider) -> Body:
        """What a fallback's adapter makes of the version: its own model, its own parameters if it has some, under those
        that the call lays over, and the same tools and response format.

        :raises Invalid: for what cannot be asked there
        """
        bodies = prepared.fallback_bodies
        key = (fallback, provider.kind, _taken_by(provider, fallback.model))
        body = bodies.get(key)
        if body is None:
            version = replace(prepared.version, model=fallback.model)
            if fallback.parameters is not None:
                version = replace(version, parameters=self._versions.unpack_parameters(fallback.parameters))
                if prepared.over is not None:
                    version = inputs.laid_over(version, Overrides(parameters=prepared.over))
            if len(bodies) >= _MAX_FALLBACK_BODIES:
                # A variant's fallbacks changed often while its version did not.
                bodies.clear()
            body = bodies[key] = self._body(version, provider)
        return body

    def _made(self, uid: str, version: Version, provider: view.Provider, over: Parameters | None = None) -> Prepared:
        return Prepared(
            uid=uid,
            version=version,
            kind=provider.kind,
            takes=_taken_by(provider, version.model),
            compiled=CompiledMessages(version.messages),
            body=self._body(version, provider),
            # A response format is read by the model as tools are, in words or natively.
            tools_text="".join(dump(each) for each in (version.tools, version.response_format) if each),
            output=self._outputs.of(version.response_format) if version.response_format else None,
            fallback_bodies={},
            over=over,
        )

    def _body(self, version: Version, provider: view.Provider) -> Body:
        takes = _taken_by(provider, version.model)
        adapter = self._providers[provider.kind]
        return Body(adapter.prepare(version, provider.kind, takes), adapter.answer_tokens(version))

    def _unpacked(self, seen: view.View, project: str, uid: str) -> Version:
        packed = seen.version(project, uid)
        if packed is None:
            raise Precondition(
                f"the version {uid} is not in the catalog; write the variant again", reason="VERSION_NOT_FOUND"
            )
        return self._versions.unpack(packed.packed)


def _taken_by(provider: view.Provider, model: str) -> view.StructuredOutput:
    facts = provider.model_facts.get(model)
    return view.StructuredOutput.JSON_SCHEMA if facts is None else facts.structured_output


def _size_bytes(prepared: Prepared) -> int:
    """About what it holds: fallbacks repeat the body, and the objects of what was parsed take a few times its text."""
    templates = sum(
        len(message.content) + sum(len(getattr(part, "text", "")) for part in message.parts)
        for message in prepared.version.messages
    )
    texts = len(prepared.body.prepared) + len(prepared.tools_text)
    output = 0 if prepared.output is None else prepared.output.size
    return 4096 + _BYTES_PER_CHARACTER * templates + 6 * texts + output
