"""What an LLM's variant says and how it is steered, as options say it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer
from google.protobuf.json_format import ParseDict, ParseError

from cli import message_files, proposals, trying
from cli.client import Client
from cli.names import Named
from cli.words import UNKNOWN_USERS, UnknownUsers
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import deployment_pb2, prompt_pb2, version_pb2, version_service_pb2
from turnout.registry.v1 import deployment_service_pb2 as service_pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.version_service_pb2_grpc import VersionServiceStub

_PANEL: Final = "What it says"
_NAMES: Final = tuple(field.name for field in version_pb2.Parameters.DESCRIPTOR.fields)

Provider: TypeAlias = Annotated[
    str, typer.Option(help="A provider of the project.", autocompletion=proposals.providers, rich_help_panel=_PANEL)
]
Model: TypeAlias = Annotated[
    str,
    typer.Option(
        help="The provider's name for a model; of a recommender, a trained model's number or uid.",
        rich_help_panel=_PANEL,
    ),
]
System: TypeAlias = Annotated[
    str,
    typer.Option(help="The system message; `{{ country }}` makes country a variable.", rich_help_panel=_PANEL),
]
User: TypeAlias = Annotated[str, typer.Option(help="A user message behind it, a template too.", rich_help_panel=_PANEL)]
File: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        exists=True,
        dir_okay=False,
        allow_dash=True,
        help="All messages, in YAML or JSON: `messages` (role and content each) and, if wanted, `variables_schema`; - "
        "reads it from standard input.",
        rich_help_panel=_PANEL,
    ),
]
Prompt: TypeAlias = Annotated[
    str,
    typer.Option(
        help="The messages of a prompt of the project, such as welcome or welcome@3, instead.",
        autocompletion=proposals.prompts,
        rich_help_panel=_PANEL,
    ),
]
Temperature: TypeAlias = Annotated[
    float | None, typer.Option(min=0, max=2, help="Default: the provider's.", rich_help_panel=_PANEL)
]
MaxOutputTokens: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=2**31 - 1, help="Default: the provider's.", rich_help_panel=_PANEL)
]
Parameters: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        help=f"name=value, of {', '.join(_NAMES)}; name= makes it the provider's default. Repeat for several.",
        rich_help_panel=_PANEL,
    ),
]
Unknown: TypeAlias = Annotated[
    UnknownUsers | None,
    typer.Option(help="Of a recommender: the most popular items for users it does not know, or an error."),
]


@dataclass(frozen=True, slots=True)
class Content:
    """What was asked for; what is empty stays as it is."""

    provider: str = ""
    model: str = ""
    system: str = ""
    user: str = ""
    file: Path | None = None
    prompt: str = ""
    temperature: float | None = None
    max_output_tokens: int | None = None
    parameters: Sequence[str] = ()

    def __post_init__(self) -> None:
        """:raises typer.BadParameter: if messages are given in two ways"""
        ways = [
            name
            for name, given in (
                ("--prompt", self.prompt),
                ("--file", self.file is not None),
                ("--system and --user", self.system or self.user),
            )
            if given
        ]
        if len(ways) > 1:
            raise typer.BadParameter(f"give {' or '.join(ways)}, and not both", param_hint=ways[0])

    def fill(self, completion: deployment_pb2.CompletionVariant) -> None:
        """Give a variant what was asked for, in its `new_version`. Messages are replaced all together.

        :raises typer.BadParameter: for a file or a parameter that cannot be used
        """
        version = completion.new_version
        version.provider = self.provider or version.provider
        version.model = self.model or version.model
        messages = self._messages()
        if messages.messages or self.prompt or completion.prompt:
            # A prompt brings its own, also where it stays the same.
            del version.messages[:]
            version.ClearField("variables_schema_json")
        if messages.messages:
            completion.ClearField("prompt")
            version.messages.extend(messages.messages)
            version.variables_schema_json = messages.variables_schema_json
        elif self.prompt:
            completion.prompt = self.prompt
        self._steer(version)

    def _messages(self) -> prompt_pb2.Prompt:
        given = prompt_pb2.Prompt()
        if self.file is not None:
            message_files.fill(given, self.file)
            if not given.messages:
                raise typer.BadParameter("must hold `messages`", param_hint="--file")
        for role, text in ((message_pb2.ROLE_SYSTEM, self.system), (message_pb2.ROLE_USER, self.user)):
            if text:
                given.messages.add(role=role, content=text)
        return given

    def _steer(self, version: version_pb2.Version) -> None:
        given = dict(_parameter(each) for each in self.parameters)
        for name in ("temperature", "max_output_tokens"):
            if getattr(self, name) is not None:
                given[name] = getattr(self, name)
        for name, value in given.items():
            version.parameters.ClearField(name)  # type: ignore[arg-type]  # it is one of them
            if value is not None:
                try:
                    ParseDict({name: value}, version.parameters)
                except ParseError as error:
                    raise _bad(f"{name} cannot be {value!r}: {error}") from None
        if not version.parameters.ListFields():
            version.ClearField("parameters")


def as_it_is(
    client: Client, named: Named, variant: str, alias: str, *, hint: str = "variant"
) -> deployment_pb2.Variant:
    """A variant as an alias has it, with its etag: what is not named stays, and nobody's change in between is lost.

    :raises typer.BadParameter: if the alias has none such
    """
    request = service_pb.GetRevisionRequest(name=f"{named.full}/revisions/{alias}")
    revision = DeploymentServiceStub(client.channel("registry")).GetRevision(request)
    for found in revision.variants:
        if variant in (found.slug, found.uid, str(found.number)):
            return found
    there = ", ".join(each.slug for each in revision.variants[:20]) or "none"
    raise typer.BadParameter(f"{named.slug}:{alias} has no variant {variant}; there are {there}", param_hint=hint)


def serve(
    client: Client,
    named: Named,
    wanted: deployment_pb2.Variant,
    former: deployment_pb2.Variant,
    content: Content,
    tries: Mapping[str, Any],
    unknown_users: UnknownUsers | None,
) -> None:
    """Let a variant run what another did, but for what was asked for.

    :raises typer.BadParameter: for what only the other kind has
    """
    wanted.etag = former.etag
    if former.HasField("recommendation"):
        only_model = Content(model=content.model)
        if content != only_model or any(each is not None for each in tries.values()):
            raise typer.BadParameter(
                "a recommender has --model and --unknown-users alone: the other options are for LLMs",
                param_hint="--model",
            )
        wanted.recommendation.CopyFrom(former.recommendation)
        wanted.recommendation.model = content.model or former.recommendation.model
        if unknown_users is not None:
            wanted.recommendation.unknown_users = UNKNOWN_USERS[unknown_users]
        return
    if unknown_users is not None:
        raise typer.BadParameter("is for recommenders", param_hint="--unknown-users")
    completion = wanted.completion
    completion.CopyFrom(former.completion)
    if content != Content():
        if completion.version:
            name = f"{named.parent}/versions/{completion.version}"
            request = version_service_pb2.GetVersionRequest(name=name)
            completion.new_version.CopyFrom(VersionServiceStub(client.channel("registry")).GetVersion(request))
            for field in ("name", "uid", "create_time", "expire_time", "warnings"):
                completion.new_version.ClearField(field)
        completion.version = ""
        content.fill(completion)
    trying.set_on(completion, **tries)


def _parameter(text: str) -> tuple[str, Any]:
    """A name and its value; None is the provider's default."""
    name, equals, written = text.partition("=")
    if not equals:
        raise _bad(f"a parameter is written name=value, not {text!r}")
    if name not in _NAMES:
        raise _bad(f"there is no parameter {name!r}; there are {', '.join(_NAMES)}")
    if not written:
        return name, None
    try:
        value = json.loads(written)
    except ValueError:
        value = written
    if name == "stop" and not isinstance(value, list):
        value = [written]
    if name in ("extra_json", "reasoning_effort"):
        value = written
    return name, value


def _bad(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="--parameter")
