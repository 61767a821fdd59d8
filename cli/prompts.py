"""`turnout prompts`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from cli import contexts, message_files, names, output, pages, proposals, words
from cli.client import Client, failures_for_people
from cli.program import program
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import prompt_pb2
from turnout.registry.v1 import prompt_service_pb2 as pb
from turnout.registry.v1.prompt_service_pb2_grpc import PromptServiceStub

Prompt: TypeAlias = Annotated[str, typer.Argument(help="Its name or uid.", autocompletion=proposals.prompts)]
Numbered: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="Its name or uid; welcome@3 is its third state.",
        metavar="PROMPT[@NUMBER]",
        autocompletion=proposals.prompts,
    ),
]
System: TypeAlias = Annotated[
    str | None, typer.Option(help="The system message; `{{ country }}` makes country a variable.")
]
User: TypeAlias = Annotated[str | None, typer.Option(help="A user message behind it, a template too.")]
File: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--file",
        "-f",
        exists=True,
        dir_okay=False,
        allow_dash=True,
        help="YAML or JSON with `messages` (role and content each) and, if wanted, `variables_schema`; - reads it from "
        "standard input. What `turnout --json prompts show` prints is such a file.",
    ),
]
DisplayName: TypeAlias = Annotated[str | None, typer.Option(help="For people.")]
Description: TypeAlias = Annotated[str | None, typer.Option(help="What it is for.")]
Note: TypeAlias = Annotated[str, typer.Option(help="What this state of its messages is for.")]

app = typer.Typer(
    help="Named message templates that several variants share, numbered as they change.", no_args_is_help=True
)


@app.command("list")
def list_prompts(
    context: typer.Context,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: pages.Limit = 100,
) -> None:
    """Show a project's prompts."""
    client: Client = context.obj
    with failures_for_people():
        stub = _stub(client)

        def page(token: str) -> tuple[list[prompt_pb2.Prompt], str]:
            request = pb.ListPromptsRequest(parent=client.parent, page_token=token, show_archived=archived)
            answer = stub.ListPrompts(request)
            return list(answer.prompts), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    if not found:
        output.aside(f"there are no prompts yet; to make one: {program()} prompts create --help")
    output.table(
        ["prompt", "number", "changed", "description"],
        [
            (
                f"{each.name.rpartition('/')[2]}{' (archived)' if each.archived else ''}",
                each.number,
                each.update_time.ToJsonString(),
                _line(each.description),
            )
            for each in found
        ],
        numbers=["number"],
    )


@app.command()
def show(
    context: typer.Context,
    prompt: Numbered,
    numbers: Annotated[bool, typer.Option("--numbers", help="Its states instead, newest first.")] = False,
    limit: pages.Limit = 100,
) -> None:
    """Show a prompt: what it says now, what it said as of a number, or all its numbers.

    Examples: turnout prompts show welcome; turnout prompts show welcome@3; turnout prompts show welcome --numbers
    """
    client: Client = context.obj
    with failures_for_people():
        stub, name = _stub(client), _name(client, prompt)
        if numbers:
            _show_numbers(client, stub, name, limit)
            return
        found = stub.GetPrompt(pb.GetPromptRequest(name=name))
    if client.as_json:
        output.as_json(found)
        return
    output.facts(
        [
            ("name", found.name),
            ("uid", found.uid),
            ("number", f"{found.number}, written {found.number_create_time.ToJsonString()} by {found.author}"),
            *([("note", found.note)] if found.note else []),
            *([("description", found.description)] if found.description else []),
            *([("archived", "yes")] if found.archived else []),
            *([("variables", found.variables_schema_json)] if found.variables_schema_json else []),
        ]
    )
    _say_messages(found.messages)


@app.command()
def create(
    context: typer.Context,
    prompt_id: Annotated[str, typer.Argument(help="Its name for ever: a-z, 0-9, hyphens and underscores.")],
    system: System = None,
    user: User = None,
    file: File = None,
    display_name: DisplayName = None,
    description: Description = None,
    note: Note = "",
) -> None:
    """Make a prompt; its messages are number 1.

    Examples: turnout prompts create welcome --system "Welcome guests of {{ hotel }}."; turnout prompts create welcome
    --file welcome.yaml
    """
    client: Client = context.obj
    prompt = prompt_pb2.Prompt(display_name=display_name or "", description=description or "", note=note)
    if not _fill(prompt, system, user, file):
        raise typer.BadParameter("give --system, --user or --file: a prompt has messages")
    with failures_for_people():
        made = _stub(client).CreatePrompt(
            pb.CreatePromptRequest(parent=client.parent, prompt_id=prompt_id, prompt=prompt)
        )
    if client.as_json:
        output.as_json(made)
        return
    use = f"{program()} deployments create NAME --provider PROVIDER --model MODEL --prompt {prompt_id}"
    output.say(f"created {made.name}; use it with: {use}")


@app.command()
def update(
    context: typer.Context,
    prompt: Prompt,
    system: System = None,
    user: User = None,
    file: File = None,
    display_name: DisplayName = None,
    description: Description = None,
    note: Note = "",
    etag: Annotated[str, typer.Option(help="Refuse if the prompt has changed since it had this etag.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it, change nothing.")] = False,
) -> None:
    """Change a prompt: other messages are a new number.

    All messages are given. What serves stays as it is, until `turnout deployments update` moves it to the new number.

    Example: turnout prompts update welcome --system "Welcome {{ guest }} to {{ hotel }}." --note "by name"
    """
    client: Client = context.obj
    wanted = prompt_pb2.Prompt(note=note, etag=etag)
    request = pb.UpdatePromptRequest(prompt=wanted, validate_only=dry_run)
    request.update_mask.paths.extend(_fill(request.prompt, system, user, file))
    for field, value in (("display_name", display_name), ("description", description)):
        if value is not None:
            setattr(request.prompt, field, value)
            request.update_mask.paths.append(field)
    if not request.update_mask.paths:
        raise typer.BadParameter("nothing to change: give messages, --display-name or --description")
    with failures_for_people():
        request.prompt.name = _name(client, prompt)
        changed = _stub(client).UpdatePrompt(request)
    if client.as_json:
        output.as_json(changed)
        return
    output.say(f"{changed.name}: {'would be ' if dry_run else ''}number {changed.number}")


@app.command()
def render(
    context: typer.Context,
    prompt: Numbered,
    variable: Annotated[
        list[str] | None,
        typer.Option("--variable", "-v", help="name=value, as in `turnout run`; repeat for several."),
    ] = None,
) -> None:
    """Show a prompt's messages as a model would get them.

    Example: turnout prompts render welcome@3 -v hotel=Astoria
    """
    client: Client = context.obj
    variables = contexts.variables_json(variable or [])
    with failures_for_people():
        request = pb.RenderPromptRequest(name=_name(client, prompt), variables_json=variables)
        rendered = _stub(client).RenderPrompt(request)
    if client.as_json:
        output.as_json(rendered)
        return
    _say_messages(rendered.messages)


@app.command()
def archive(context: typer.Context, prompt: Prompt) -> None:
    """Take a prompt out of use: nothing new is made from it. Refused while a deployment in service uses it."""
    client: Client = context.obj
    with failures_for_people():
        changed = _stub(client).ArchivePrompt(pb.ArchivePromptRequest(name=_name(client, prompt)))
    _tell(client, changed)


@app.command()
def unarchive(context: typer.Context, prompt: Prompt) -> None:
    """Bring a prompt back."""
    client: Client = context.obj
    with failures_for_people():
        changed = _stub(client).UnarchivePrompt(pb.UnarchivePromptRequest(name=_name(client, prompt)))
    _tell(client, changed)


def _show_numbers(client: Client, stub: PromptServiceStub, name: str, limit: int) -> None:
    def page(token: str) -> tuple[list[prompt_pb2.Prompt], str]:
        answer = stub.ListPromptNumbers(pb.ListPromptNumbersRequest(parent=name, page_token=token))
        return list(answer.prompts), answer.next_page_token

    found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    output.table(
        ["number", "written", "by", "note"],
        [
            (each.number, each.number_create_time.ToJsonString(), each.author.rpartition("/")[2], _line(each.note))
            for each in found
        ],
        numbers=["number"],
    )


def _fill(prompt: prompt_pb2.Prompt, system: str | None, user: str | None, file: Path | None) -> list[str]:
    """Give a prompt its messages; the fields that this sets.

    :raises typer.BadParameter: if they are given in two ways, or the file cannot be used
    """
    if file is not None:
        if system is not None or user is not None:
            raise typer.BadParameter("give --file, or --system and --user, and not both", param_hint="--file")
        return message_files.fill(prompt, file)
    for role, text in ((message_pb2.ROLE_SYSTEM, system), (message_pb2.ROLE_USER, user)):
        if text:
            prompt.messages.add(role=role, content=text)
    return ["messages"] if prompt.messages else []


def _say_messages(messages: Iterable[message_pb2.Message]) -> None:
    for message in messages:
        output.say(f"\n{words.word(words.ROLES, message.role)}:")
        if message.content:
            output.say(message.content)
        for part in message.parts:
            output.say(part.text or part.image.url)
        for call in message.tool_calls:
            output.say(f"{call.tool}({call.arguments_json})")


def _line(text: str) -> str:
    """What a cell of a table holds of a text."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= 80 else f"{first[:79]}…"


def _stub(client: Client) -> PromptServiceStub:
    return PromptServiceStub(client.channel("registry"))


def _name(client: Client, prompt: str) -> str:
    return names.resource(client, prompt, "prompts")


def _tell(client: Client, changed: prompt_pb2.Prompt) -> None:
    if client.as_json:
        output.as_json(changed)
        return
    output.say(f"{changed.name}: {'archived' if changed.archived else 'in use'}")
