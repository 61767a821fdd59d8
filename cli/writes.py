"""How a change of a deployment is made: the options that all such commands take, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import typer

from cli import output, pages, proposals
from cli.client import Client
from cli.program import program
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1 import revision_pb2
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

_PANEL: Final = "How it is done"


class Bump(StrEnum):
    """What a person types for the part of a revision's number that grows."""

    MINOR = "minor"
    MAJOR = "major"


_BUMPS: Final = {Bump.MINOR: revision_pb2.BUMP_MINOR, Bump.MAJOR: revision_pb2.BUMP_MAJOR}

Alias: TypeAlias = Annotated[
    str,
    typer.Option(
        help="The alias that moves.", autocompletion=proposals.aliases, show_default="live", rich_help_panel=_PANEL
    ),
]
Draft: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--draft",
        help="Make the revision only; `turnout deployments alias` publishes it.",
        rich_help_panel=_PANEL,
    ),
]
Bumped: TypeAlias = Annotated[
    Bump | None,
    typer.Option(
        "--bump",
        help="Which part of the revision's number grows. Default: as the change is.",
        rich_help_panel=_PANEL,
    ),
]
Description: TypeAlias = Annotated[str, typer.Option(help="What for, for the history.", rich_help_panel=_PANEL)]
RetainContract: TypeAlias = Annotated[
    bool,
    typer.Option("--retain-contract", help="Let variables go that callers may still send.", rich_help_panel=_PANEL),
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Check it, change nothing.", rich_help_panel=_PANEL)]
SkipModelCheck: TypeAlias = Annotated[
    bool,
    typer.Option("--skip-model-check", help="Take a model that its provider does not list.", rich_help_panel=_PANEL),
]


def bump(word: Bump | None) -> revision_pb2.Bump.ValueType:
    """As requests say it."""
    return revision_pb2.BUMP_UNSPECIFIED if word is None else _BUMPS[word]


def tops(client: Client, deployment: str, alias: str) -> list[revision_pb2.Revision]:
    """The two revisions above which a change's own may come: the highest of all, and the highest of the major number
    that an alias has. They are numbered, not ordered by time.

    :param deployment: its resource name
    """
    stub = DeploymentServiceStub(client.channel("registry"))
    base = stub.GetRevision(pb.GetRevisionRequest(name=f"{deployment}/revisions/{alias}"))

    def page(token: str) -> tuple[list[revision_pb2.Revision], str]:
        answer = stub.ListRevisions(pb.ListRevisionsRequest(parent=deployment, page_token=token))
        return list(answer.revisions), answer.next_page_token

    found: list[revision_pb2.Revision] = []
    for each in pages.items(page):
        is_of_base = _major(each) <= _major(base)
        if is_of_base or not found:
            found.append(each)
        if is_of_base:
            break
    return found


def draft_since(client: Client, deployment: str, alias: str, before: Sequence[revision_pb2.Revision]) -> str:
    """The number of the draft that a write made; empty if it had nothing to change.

    :param before: the :func:`tops` before the write
    """
    known = {each.uid for each in before}
    made = [each.number for each in tops(client, deployment, alias) if each.draft and each.uid not in known]
    return made[0] if made else ""


def _major(revision: revision_pb2.Revision) -> int:
    return int(revision.number.partition(".")[0])


def tell_draft(deployment: str, alias: str, number: str) -> None:
    """Says where a draft is, and how it goes on.

    :param deployment: its slug
    :param number: empty if none was made
    """
    if not number:
        output.say(f"{deployment}: no draft was made: {alias} is like that already")
        return
    output.say(f"{deployment}: draft {number}; nobody is served by it yet")
    output.say(f"  to look at it: {program()} deployments diff {deployment} {alias} {number}")
    output.say(f"  to publish it: {program()} deployments alias {deployment} {alias} {number}")
