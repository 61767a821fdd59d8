"""What stands between a document and the server, and the steps over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

import grpc
from google.protobuf import json_format

from cli.apply.differences import Difference
from cli.apply.documents import Document
from cli.client import Client
from kit import status
from kit.errors import AppError, Invalid, NotFound, Precondition, Violation
from turnout.registry.v1.change_request_service_pb2_grpc import ChangeRequestServiceStub
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.model_service_pb2_grpc import ModelServiceStub
from turnout.registry.v1.prompt_service_pb2_grpc import PromptServiceStub
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub
from turnout.registry.v1.version_service_pb2_grpc import VersionServiceStub

Found = TypeVar("Found")

MAX_FAILURES: Final = 20
"""Told at once."""
SEVERAL: Final = "SEVERAL_PROBLEMS"


@dataclass(frozen=True, slots=True)
class Options:
    """How a person wants it done."""

    description: str = ""
    """What for, for the history."""
    prunes: bool = False
    """Take variants away that the file does not have."""
    retains_contract: bool = False
    skips_model_check: bool = False
    sets_credentials: bool = False
    """Send credentials also where one is stored."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step came to."""

    etag: str
    """For the next step."""
    warnings: tuple[str, ...] = ()
    change_request: str = ""
    """Of a protected deployment: the name of what waits for approval. Nothing has changed then."""
    note: str = ""


Act: TypeAlias = Callable[[str, bool], Outcome]
"""Writes, if what is there still has this etag; or only checks that it could."""


@dataclass(frozen=True, slots=True)
class Step:
    """One write."""

    says: str
    """What it changes, as `variant warm`."""
    act: Act
    did: str = "changed"
    """What became of it then."""


class Action(StrEnum):
    """What becomes of a document's thing."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"
    WAIT = "wait"


@dataclass(slots=True)
class Plan:
    """One document's."""

    document: Document
    action: Action
    etag: str = ""
    differences: list[Difference] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should know, in sentences."""
    change_request: str = ""
    """The name of the request that waits already."""
    depends: bool = False
    """It uses something that is not written yet, so that nothing can be checked before."""


@dataclass(slots=True)
class Failures:
    """What is wrong with several things, so that it can be put right at once."""

    found: list[AppError] = field(default_factory=list)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Goes on behind a failure that is the file's; any other ends it."""
        try:
            yield
        except (NotFound, Invalid, Precondition) as error:
            if error.reason == "PROJECT_NOT_FOUND":
                raise
            if len(self.found) < MAX_FAILURES:
                self.found.append(error)

    def raise_all(self) -> None:
        """:raises AppError: if there is any: the only one as it is, several as one"""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            told = [each for error in self.found for each in _told_of(error)][:MAX_FAILURES]
            raise Invalid(f"nothing was applied: {len(told)} problems", reason=SEVERAL, violations=told)


def _told_of(error: AppError) -> list[Violation]:
    if error.reason == SEVERAL:
        return list(error.violations)
    # The message of a failure has its place before it.
    more = [each for each in error.violations if each.message not in error.message]
    return [Violation("", f"{error.message} ({error.reason})"), *more]


class Server:
    """The services that apply speaks to."""

    def __init__(self, client: Client) -> None:
        channel = client.channel("registry")
        self.parent = client.parent
        self.providers = ProviderServiceStub(channel)
        self.prompts = PromptServiceStub(channel)
        self.versions = VersionServiceStub(channel)
        self.models = ModelServiceStub(channel)
        self.deployments = DeploymentServiceStub(channel)
        self.change_requests = ChangeRequestServiceStub(channel)


@contextmanager
def said_of(where: str) -> Iterator[None]:
    """A failure says whose it is.

    :param where: as `deployment.yaml:3 variants.warm`
    """
    try:
        yield
    except AppError as error:
        raise _placed(error, where) from None
    except json_format.ParseError as error:
        raise _placed(Invalid(str(error), reason="FILE_INVALID"), where) from None
    except grpc.RpcError as failure:
        if not hasattr(failure, "code"):
            raise
        raise _placed(status.from_rpc_error(failure, peer="turnout"), where) from None


def found(get: Callable[[], Found]) -> Found | None:
    """What a server has; None if it is not there. That the project is not there is a failure."""
    try:
        return get()
    except grpc.RpcError as failure:
        if not hasattr(failure, "code") or failure.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        error = status.from_rpc_error(failure, peer="turnout")
        if error.reason == "PROJECT_NOT_FOUND":
            raise error from None
        return None


def archived(what: str, command: str) -> Invalid:
    """What is out of use is not changed by a file."""
    return Invalid(f"{what} is archived: bring it back with `{command}`, or take it out of the file", reason="ARCHIVED")


def wrong(document: Document, path: str, problem: str, *, reason: str) -> Invalid:
    """Something that only the server knows to be wrong."""
    return Invalid(f"{document.at(path)} {problem}", reason=reason)


def missing(document: Document, path: str, problem: str) -> NotFound:
    """Something that a document uses, and nobody has."""
    return NotFound(f"{document.at(path)} {problem}", reason="USED_NOT_FOUND")


def _placed(error: AppError, where: str) -> AppError:
    source, colon, _ = where.partition(":")
    # Whoever was nearer knew better.
    if not (colon and error.message.startswith(f"{source}:")):
        error.message = f"{where}: {error.message}"
    return error
