"""`turnout deployments check`: whether callers can rely on what would follow; and what they rely on now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import names, output, proposals
from cli.client import Client, failures_for_people
from kit.errors import Invalid
from kit.json import MAX_BYTES, dump, parse, parse_object
from turnout.registry.v1 import deployment_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

_VERDICTS: Final = {
    pb.COMPATIBILITY_EQUAL: "equal: callers notice nothing",
    pb.COMPATIBILITY_COMPATIBLE: "compatible, with warnings",
    pb.COMPATIBILITY_DIFFERENT: "different: callers would break",
}


def check(
    context: typer.Context,
    deployment: Annotated[
        str, typer.Argument(help="Its name or uid.", autocompletion=proposals.deployments, show_default=False)
    ] = "",
    revision: Annotated[
        str,
        typer.Argument(
            help="The revision that would follow, or an alias.", autocompletion=proposals.revisions, show_default=False
        ),
    ] = "",
    alias: Annotated[
        str,
        typer.Option(
            help="The alias whose callers are asked for.", autocompletion=proposals.aliases, show_default="live"
        ),
    ] = "",
    before: Annotated[Path | None, typer.Option(help="A JSON file: what callers rely on.")] = None,
    after: Annotated[Path | None, typer.Option(help="A JSON file: what would follow.")] = None,
) -> None:
    """Tell whether a revision would break those who call an alias; then exit with 1.

    Two files hold contracts: {"variables_schema": {…}, "response_format": {…}}; or a JSON Schema of variables alone.

    Examples: turnout deployments check guide 2.0; turnout deployments check guide staging --alias production;
    turnout deployments check --before old.json --after new.json
    """
    client: Client = context.obj
    is_revision, is_files = bool(deployment and revision), bool(before and after)
    if is_revision == is_files or bool(deployment) != bool(revision) or (before is None) != (after is None):
        raise typer.BadParameter("give a deployment and a revision, or --before and --after")
    with failures_for_people():
        if before is not None and after is not None:
            request = pb.CheckCompatibilityRequest(name=client.parent, before=_read(before), after=_read(after))
        else:
            named = names.deployment(client, deployment)
            request = pb.CheckCompatibilityRequest(name=named.full, revision=revision, alias=named.alias_or(alias))
        answer = DeploymentServiceStub(client.channel("registry")).CheckCompatibility(request)
    if client.as_json:
        output.as_json(answer)
    else:
        _tell(answer)
    if answer.compatibility == pb.COMPATIBILITY_DIFFERENT:
        raise typer.Exit(1)


def tell_contracts(deployment: deployment_pb2.Deployment) -> None:
    """What callers of each alias rely on: variables with their types, and the form of the answer."""
    contracts: dict[str, list[str]] = {}
    for alias in deployment.aliases:
        if alias.HasField("contract"):
            text = f"{alias.contract.variables_schema_json}\n{alias.contract.response_format_json}"
            contracts.setdefault(text, []).append(alias.alias)
    for text, aliases in contracts.items():
        schema, _, form = text.partition("\n")
        output.say("")
        output.say(f"callers of {', '.join(aliases)} rely on")
        output.facts([("variables", _variables(schema)), ("answer", _form(form))])


def _variables(schema: str) -> str:
    if not schema:
        return "none"
    whole = parse_object(schema, field="variables_schema_json")
    properties = whole.get("properties")
    if not isinstance(properties, dict) or not properties:
        return schema
    return ", ".join(f"{name} ({_type(each)})" for name, each in properties.items())


def _type(schema: Any) -> str:
    kind = schema.get("type", "anything") if isinstance(schema, dict) else "anything"
    return " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def _form(form: str) -> str:
    if not form:
        return "text"
    whole = parse_object(form, field="response_format_json")
    named = whole.get("json_schema")
    name = named.get("name", "") if isinstance(named, dict) else ""
    return f"{whole.get('type', 'text')} {name}".rstrip()


def _tell(answer: pb.CheckCompatibilityResponse) -> None:
    output.say(_VERDICTS.get(answer.compatibility, str(answer.compatibility)))
    rows = [("breaks", each) for each in answer.differences] + [("warning", each) for each in answer.warnings]
    if rows:
        output.say("")
        output.table(
            ["", "path", "reason", "before", "after"],
            [(sort, each.path, each.reason, each.before or "–", each.after or "–") for sort, each in rows],
        )


def _read(path: Path) -> deployment_pb2.Contract:
    try:
        with path.open("rb") as file:
            data = file.read(2 * MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror or 'cannot be read'}", reason="FILE_NOT_FOUND") from None
    whole = parse(data, field=str(path), max_bytes=2 * MAX_BYTES)
    if not isinstance(whole, dict):
        raise Invalid(f"{path}: must hold a JSON object", reason="FILE_INVALID")
    if not set(whole) <= {"variables_schema", "response_format"}:
        whole = {"variables_schema": whole}
    texts = {
        name: dump(whole[name]) if whole.get(name) is not None else ""
        for name in ("variables_schema", "response_format")
    }
    return deployment_pb2.Contract(
        variables_schema_json=texts["variables_schema"], response_format_json=texts["response_format"]
    )
