"""`turnout deployments export`: a file that `turnout apply` finds unchanged."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import grpc
import typer
import yaml

from cli import names, output, proposals
from cli.apply import contents, rules, text
from cli.apply.plan import Server
from cli.client import Client, failures_for_people
from kit.json import Json
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2, version_pb2, version_service_pb2

_REFUSALS: Final = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
)
_OTHER_BREAKS: Final = re.compile("[\r\x85\u2028\u2029\ufeff]")


class Dumper(yaml.SafeDumper):
    """Long texts as people read them; nothing that YAML reads in two ways, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    # What would read as something else, and line breaks that YAML would make one of its own.
    if not isinstance(text.scalar(value), str) or _OTHER_BREAKS.search(value):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


Dumper.add_representer(str, _text)


def export(
    context: typer.Context,
    deployment: Annotated[
        str, typer.Argument(help="Its name or uid.", autocompletion=proposals.deployments, show_default=False)
    ],
    aliases: Annotated[
        bool, typer.Option("--aliases", help="With its aliases, which apply would manage then.")
    ] = False,
) -> None:
    """Print a deployment as a file for `turnout apply`, which finds it unchanged.

    Example: turnout deployments export guide > guide.yaml
    """
    client: Client = context.obj
    with failures_for_people():
        named = names.deployment(client, deployment)
        server = Server(client)
        server.parent = named.parent
        output.answer(document(server, named.whole(), with_aliases=aliases), end="")


def document(server: Server, deployment: str, *, with_aliases: bool = False) -> str:
    """The file's text.

    :param deployment: its resource name
    """
    found = server.deployments.GetDeployment(deployment_service_pb2.GetDeploymentRequest(name=deployment))
    slug = found.name.rpartition("/")[2]
    shown: dict[str, Json] = {"kind": "Deployment", "name": slug}
    if found.display_name != slug:
        shown["display_name"] = found.display_name
    if found.description:
        shown["description"] = found.description
    if found.protected:
        shown["protected"] = True
    if found.salt != found.uid:
        shown["salt"] = found.salt
    shown["variants"] = {variant.slug: _variant(server, variant) for variant in found.variants}
    if routing := rules.document(found.routing):
        shown["routing"] = routing
    others = {each.alias: each.revision for each in found.aliases if each.alias != "live"}
    if with_aliases and others:
        shown["aliases"] = dict(others)
    dumped: str = yaml.dump(shown, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return dumped


def _variant(server: Server, variant: pb.Variant) -> Json:
    if not variant.HasField("completion"):
        return contents.variant_document(variant, None)
    name = f"{server.parent}/versions/{variant.completion.version}"
    content = server.versions.GetVersion(version_service_pb2.GetVersionRequest(name=name))
    return contents.variant_document(variant, _without_derived_schema(server, content))


def _without_derived_schema(server: Server, content: version_pb2.Version) -> version_pb2.Version:
    """The same without its variables schema, if that follows from the templates: people need not maintain it."""
    bare = version_pb2.Version()
    bare.CopyFrom(content)
    bare.variables_schema_json = ""
    request = version_service_pb2.PutVersionRequest(
        parent=server.parent, version=bare, validate_only=True, skip_model_check=True
    )
    try:
        return bare if server.versions.PutVersion(request).uid == content.uid else content
    except grpc.RpcError as failure:
        # A key that may only read gets the longer file, which says the same. Other refusals mean that the shorter one
        # would be another version: what is new, of a provider that is archived.
        if not hasattr(failure, "code") or failure.code() not in _REFUSALS:
            raise
        return content
