"""`turnout changes`: what waits for approval, and deciding on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.text import Text

from cli import names, output, pages, proposals
from cli.client import Client, failures_for_people
from cli.program import program
from kit.errors import Invalid
from turnout.registry.v1 import change_request_pb2 as pb
from turnout.registry.v1 import change_request_service_pb2 as service_pb
from turnout.registry.v1 import deployment_service_pb2, revision_pb2
from turnout.registry.v1.change_request_service_pb2_grpc import ChangeRequestServiceStub
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

app = typer.Typer(
    help="Changes of protected deployments: what waits for approval, and deciding on it.", no_args_is_help=True
)

Request = Annotated[str, typer.Argument(help="Its uid chg_…, or its whole name.", autocompletion=proposals.changes)]
Note = Annotated[str, typer.Option(help="Why, for the record.")]

_STYLES: Final = {
    revision_pb2.DIFFERENCE_KIND_ADDED: "green",
    revision_pb2.DIFFERENCE_KIND_REMOVED: "red",
    revision_pb2.DIFFERENCE_KIND_CHANGED: "yellow",
}


class State(StrEnum):
    """What a person types for a state."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ALL = "all"


@app.command("list")
def list_changes(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="A deployment's name or uid. Default: all.", autocompletion=proposals.deployments, show_default=False
        ),
    ] = "-",
    state: Annotated[State, typer.Option(help="Which to show.")] = State.PENDING,
    limit: pages.Limit = 100,
) -> None:
    """Show changes that wait for approval, or did, newest first.

    Examples: turnout changes list; turnout changes list guide --state all
    """
    client: Client = context.obj
    with failures_for_people():
        found = pages.walk(_pages(client, deployment, state), limit)
        if client.as_json:
            output.as_json(found)
            return
        now = _now(client, found)
    if not found:
        which = {State.PENDING: "nothing waits for approval", State.ALL: "no change was asked for"}
        output.aside(which.get(state, f"no change was {state.value}"))
    output.table(
        ["change", "deployment", "alias", "from", "to", "state", "asked by", "until", "what for"],
        [
            (
                each.uid,
                each.name.split("/")[3],
                each.alias,
                each.base or "–",
                each.revision,
                _state(each) + _moved(each, now),
                _last(each.author),
                each.expire_time.ToJsonString() if each.state == pb.CHANGE_REQUEST_STATE_PENDING else "–",
                each.description,
            )
            for each in found
        ],
    )


@app.command()
def show(context: typer.Context, change: Request) -> None:
    """Show one change: what would be different, who asked for it, and until when it can be approved.

    Example: turnout changes show chg_0123456789abcdefghjkmnpqrs
    """
    client: Client = context.obj
    with failures_for_people():
        found = _stub(client).GetChangeRequest(service_pb.GetChangeRequestRequest(name=_name(client, change)))
        if client.as_json:
            output.as_json(found)
            return
        moved = _moved(found, _now(client, [found]))
    _tell(found, moved)
    output.say("")
    for difference in found.differences:
        output.screen.print(Text(difference.sentence, style=_STYLES.get(difference.kind, "")), soft_wrap=True)
    if not found.differences:
        output.say(f"alias {found.alias} does not exist yet" if not found.base else "the revisions are equal")
    output.warnings(found.warnings)
    if found.state == pb.CHANGE_REQUEST_STATE_PENDING and not moved:
        output.say("")
        output.say(f"to approve it, with another key than its author's: {program()} changes approve {found.uid}")


@app.command()
def approve(context: typer.Context, change: Request, note: Note = "") -> None:
    """Let a change happen: its alias moves to its revision.

    Only another key than its author's may do so, and it needs `deployments:approve`.

    Example: turnout changes approve chg_0123456789abcdefghjkmnpqrs --note "as agreed"
    """
    client: Client = context.obj
    with failures_for_people():
        request = service_pb.ApproveChangeRequestRequest(name=_name(client, change), note=note)
        _decided(client, _stub(client).ApproveChangeRequest(request))


@app.command()
def reject(context: typer.Context, change: Request, note: Note = "") -> None:
    """Turn a change down; it needs `deployments:approve`.

    Example: turnout changes reject chg_0123456789abcdefghjkmnpqrs --note "after the sale"
    """
    client: Client = context.obj
    with failures_for_people():
        request = service_pb.RejectChangeRequestRequest(name=_name(client, change), note=note)
        _decided(client, _stub(client).RejectChangeRequest(request))


@app.command()
def cancel(context: typer.Context, change: Request, note: Note = "") -> None:
    """Withdraw a change that one asked for oneself.

    Example: turnout changes cancel chg_0123456789abcdefghjkmnpqrs
    """
    client: Client = context.obj
    with failures_for_people():
        request = service_pb.CancelChangeRequestRequest(name=_name(client, change), note=note)
        _decided(client, _stub(client).CancelChangeRequest(request))


def waiting(what: str, name: str) -> None:
    """Says that a write became a change request.

    :param what: what was to change, as `deployment guide`
    :param name: the change request's
    """
    uid = _last(name)
    output.say(f"{what}: nothing has changed yet: it is protected, and the change waits for approval as {uid}")
    output.say(f"  to look at it: {program()} changes show {uid}")
    output.say(f"  to approve it, with a key that may: {program()} changes approve {uid}")


def _pages(client: Client, deployment: str, state: State) -> Callable[[str], tuple[list[pb.ChangeRequest], str]]:
    stub, parent = _stub(client), names.deployment(client, deployment).full
    word = "UNSPECIFIED" if state is State.ALL else state.value.upper()
    wanted = pb.ChangeRequestState.Value(f"CHANGE_REQUEST_STATE_{word}")

    def page(token: str) -> tuple[list[pb.ChangeRequest], str]:
        request = service_pb.ListChangeRequestsRequest(parent=parent, state=wanted, page_token=token, page_size=1000)
        answer = stub.ListChangeRequests(request)
        return list(answer.change_requests), answer.next_page_token

    return page


def _name(client: Client, given: str) -> str:
    """The whole name; the server knows of a uid alone which deployment it belongs to.

    :raises Invalid: `CHANGE_REQUEST_MALFORMED`
    """
    if "/" in given:
        if given.startswith("projects/"):
            return given
        deployment, _, uid = given.partition("/")
        return f"{client.parent}/deployments/{deployment}/changeRequests/{uid}"
    if not given.startswith("chg_"):
        raise Invalid(f"a change is named by its uid, as chg_…, not {given!r}", reason="CHANGE_REQUEST_MALFORMED")
    return f"{client.parent}/deployments/-/changeRequests/{given}"


def _now(client: Client, found: Iterable[pb.ChangeRequest]) -> dict[tuple[str, str], str]:
    """Where the aliases of pending changes point to now, by the deployment's name and the alias."""
    stub = DeploymentServiceStub(client.channel("registry"))
    pending = (each for each in found if each.state == pb.CHANGE_REQUEST_STATE_PENDING)
    return {
        (name, each.alias): each.revision
        for name in dict.fromkeys(each.name.partition("/changeRequests/")[0] for each in pending)
        for each in stub.GetDeployment(deployment_service_pb2.GetDeploymentRequest(name=name)).aliases
    }


def _moved(change: pb.ChangeRequest, now: Mapping[tuple[str, str], str]) -> str:
    """That a pending change cannot be approved any more, since its alias has moved; empty if it can."""
    if change.state != pb.CHANGE_REQUEST_STATE_PENDING:
        return ""
    points = now.get((change.name.partition("/changeRequests/")[0], change.alias), "")
    if points == change.base:
        return ""
    where = f"is {points} by now" if points else "is gone"
    return f", but {change.alias} {where}: ask for it anew"


def _decided(client: Client, changed: pb.ChangeRequest) -> None:
    if client.as_json:
        output.as_json(changed)
        return
    slug = changed.name.split("/")[3]
    if changed.state == pb.CHANGE_REQUEST_STATE_APPROVED:
        output.say(f"approved: {slug}:{changed.alias} is revision {changed.revision} now")
    else:
        output.say(f"{_state(changed)}: {slug}:{changed.alias} stays as it is")


def _tell(found: pb.ChangeRequest, moved: str) -> None:
    decided = [
        ("decided", f"{found.decide_time.ToJsonString()} by {_last(found.decider)}"),
        ("their note", found.decision_note or "–"),
    ]
    output.facts(
        [
            ("change", found.uid),
            ("deployment", found.name.split("/")[3]),
            ("alias", f"{found.alias}: {found.base or 'new'} → {found.revision}"),
            ("state", _state(found) + moved),
            ("what for", found.description or "–"),
            ("asked by", f"{_last(found.author)} at {found.create_time.ToJsonString()}"),
            ("until", found.expire_time.ToJsonString()),
            *([("contract", "variables may go that callers still send")] if found.retain_contract else []),
            *(decided if found.decider else []),
        ]
    )


def _state(change: pb.ChangeRequest) -> str:
    return pb.ChangeRequestState.Name(change.state).removeprefix("CHANGE_REQUEST_STATE_").lower()


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _stub(client: Client) -> ChangeRequestServiceStub:
    return ChangeRequestServiceStub(client.channel("registry"))
