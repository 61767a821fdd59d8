"""`turnout deployments routing`: rules, coverage and baseline of a deployment, shown and set."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml
from google.protobuf.field_mask_pb2 import FieldMask

from cli import confirmation, decisions, history, names, output, proposals, words, writes
from cli.apply import rules, shapes, text
from cli.apply.differences import shown
from cli.apply.documents import Document, Kind, places
from cli.apply.export import Dumper
from cli.apply.routing import in_file
from cli.client import Client, failures_for_people
from cli.program import program
from kit.errors import Invalid
from turnout.registry.v1 import deployment_pb2, routing_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

_BREAK: Final = re.compile(r"\s*\n\s*")


def routing(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="Its name or uid; an alias may stand behind it.",
            autocompletion=proposals.deployments,
            show_default=False,
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="YAML or JSON with what is to be; - is standard input. Without it, what there is is printed.",
        ),
    ] = None,
    alias: writes.Alias = "",
    draft: writes.Draft = False,
    bump: writes.Bumped = None,
    description: writes.Description = "",
    dry_run: writes.DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Print the rules by which calls find their variants, or set them from a file.

    A file has `fields` (each with its kind: string, number, boolean, date, list), `rules` in order (each with `name`,
    `when`, and a `variant` or a `split` with weights), `coverage` (0 to 1) and `baseline`. All of it is replaced: `{}`
    takes rules away. The difference is shown, and asked about, first; a draft is made without asking, since it serves
    nobody: try it with `turnout simulate`.

    Examples: turnout deployments routing guide > routing.yaml;
    turnout deployments routing guide --file routing.yaml --draft;
    turnout deployments routing guide --file routing.yaml --yes --description "Spanish for Mexico, too"
    """
    client: Client = context.obj
    with failures_for_people():
        named = names.deployment(client, deployment)
        if named.variant:
            raise typer.BadParameter("name the deployment alone: rules are its own", param_hint="deployment")
        moved = named.alias_or(alias)
        stub = DeploymentServiceStub(client.channel("registry"))
        found = stub.GetDeployment(pb.GetDeploymentRequest(name=named.full))
        revision = stub.GetRevision(pb.GetRevisionRequest(name=f"{named.full}/revisions/{moved}"))
        if file is None:
            _print(client, revision.routing)
            return
        document = _read(file, named.slug)
        fields: dict[str, object] = document.fields["routing"]  # type: ignore[assignment]  # by its shape
        wanted = rules.routing(fields, revision.routing)
        differences = rules.changes(revision.routing, wanted)
        if not client.as_json:
            for line in (line for each in differences for line in shown(each)):
                output.screen.print(line, soft_wrap=True)
            if not differences:
                output.say(f"nothing to do: {moved} is like that already")
                return
        request = pb.UpdateDeploymentRequest(
            deployment=deployment_pb2.Deployment(name=named.full, etag=found.etag),
            update_mask=FieldMask(paths=["routing"]),
            alias=moved,
            validate_only=True,
            draft=draft,
            bump=writes.bump(bump),
            description=description,
        )
        if wanted.ListFields():
            request.deployment.routing.CopyFrom(wanted)
        with in_file(document):
            changed = stub.UpdateDeployment(request)
        number: str | None = None
        if differences and not dry_run:
            told: Sequence[str] = ()
            if not draft:
                told = changed.warnings[:]
                output.warnings(told if not client.as_json else ())
                confirmation.ask(client, f"Let {named.slug}:{moved} find its variants so?", yes=yes)
            request.validate_only = False
            before = writes.tops(client, named.full, moved) if draft else None
            with in_file(document):
                changed = stub.UpdateDeployment(request)
            number = None if before is None else writes.draft_since(client, named.full, moved, before)
            if not client.as_json:
                changed.warnings[:] = [each for each in changed.warnings if each not in told]
    history.tell(client, changed, draft=number, alias=moved, dry_run=dry_run)
    if number and not client.as_json:
        output.say(
            f"  to try it: {program()} simulate {named.slug} --revision {number} --compare {moved} --population 10000"
        )


def tell(found: routing_pb2.Routing) -> None:
    """What a deployment's routing says, for people; nothing if its variants' weights decide alone."""
    if not found.ListFields():
        return
    output.say("")
    covered = f"{decisions.share(found.coverage)} of units; {found.baseline} serves the others"
    fields = ", ".join(f"{each.name} ({words.word(words.FIELD_KINDS, each.kind)})" for each in found.fields)
    output.facts(
        [
            ("fields", fields or "–"),
            ("coverage", covered if found.HasField("coverage") and found.coverage < 1 else "everybody"),
            ("baseline", found.baseline or "–"),
        ]
    )
    if not found.rules:
        return
    output.say("")
    output.table(
        ["", "rule", "when", "goes to", "active"],
        [
            (
                place,
                rule.display_name or rule.uid,
                _BREAK.sub(" ", rule.condition),
                _destination(rule),
                "yes" if rule.active or not rule.HasField("active") else "no",
            )
            for place, rule in enumerate(found.rules, start=1)
        ],
        numbers=[""],
    )


def _destination(rule: routing_pb2.Rule) -> str:
    shares = [f"{each.variant} {each.weight if each.HasField('weight') else 100:g}" for each in rule.split.shares]
    return rule.variant or output.listed(shares)


def _print(client: Client, found: routing_pb2.Routing) -> None:
    if client.as_json:
        output.as_json(found)
        return
    output.answer(
        yaml.dump(rules.document(found), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120), end=""
    )
    if not found.ListFields():
        output.aside("— there are no rules: the variants' weights decide alone")


def _read(file: Path, deployment: str) -> Document:
    """What a file says, as if it stood in a deployment's.

    :raises Invalid: `FILE_NOT_FOUND`, `FILE_INVALID`, with all that is wrong
    """
    source = "<stdin>" if str(file) == "-" else str(file)
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(text.MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(text.MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{file}: {error.strerror}", reason="FILE_NOT_FOUND") from None
    nodes = text.documents(data, source=source)
    if len(nodes) != 1:
        raise Invalid(
            f"{source}: has {len(nodes)} documents: one is needed, and {{}} takes rules away", reason="FILE_INVALID"
        )
    problems = shapes.Problems()
    fields = rules.shape(nodes[0], "routing", problems)
    if problems.found:
        raise Invalid("the file cannot be used", reason="FILE_INVALID", violations=problems.found)
    return Document(
        Kind.DEPLOYMENT, deployment, {"routing": fields}, nodes[0].where, dict(places({"routing": nodes[0]}))
    )
