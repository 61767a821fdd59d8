"""Programs that call a deployment. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from catalog import plan, view
from catalog.assignment import assign, is_covered
from catalog.plan import Choice
from catalog.rules import compiled_rules
from kit.json import Json
from services.registry.domain import example_contexts
from services.registry.domain.deployments import DeploymentKind, Revision, Variant

_MAX_HASHES: Final = 200_000
"""How long a caller is looked for: at about 1 µs each."""
_SOON: Final = 0.01
"""Probability of a variant from which a caller is found at once."""
_MESSAGE: Final = "Hello!"
_USER: Final = "user-1"


@dataclass(frozen=True, slots=True)
class Snippet:
    """One program."""

    snippet: str
    title: str
    language: str
    code: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where callers find the services."""

    http_url: str
    grpc_address: str


@dataclass(frozen=True, slots=True)
class Call:
    """What a program says of a call."""

    routing_key: str
    """Empty for nobody in particular."""
    context: dict[str, Json]


def call_of(revision: Revision) -> Call:
    """One that any variant may serve, with an example of each field that is declared."""
    return Call("", example_contexts.example(revision.routing))


def caller_of(deployment: str, revision: Revision, variant: Variant) -> Call | None:
    """A call that the variant serves: by `user-1`, `user-2` …, and with the example of a context where that will do,
    else with one by which a rule leads to the variant. None if there is none, or none was found soon.

    :param deployment: uid of the revision's
    """
    called = _as_called(revision)
    seen = next(each for each in called.variants if each.uid == variant.uid)
    compiled = compiled_rules(called)
    ways: dict[str, tuple[float, dict[str, Json], Choice]] = {}
    for context in example_contexts.reaching(revision.routing, variant.uid):
        rule = compiled.match(context)
        # Rules do not look at the key, so one decision tells between whom all draw.
        choice = plan.choose(called, deployment, "", rule)
        chance = plan.propensity(called, choice, seen) if variant.active else 0.0
        if chance > 0:
            ways.setdefault(rule.uid if rule else "", (chance, context, choice))
    left = _MAX_HASHES
    for _, context, choice in sorted(ways.values(), key=lambda way: -min(way[0], _SOON)):
        candidates = [(each.uid, weight) for each, weight in choice.candidates]
        for number in range(1, left // (len(candidates) + 1) + 1):
            left -= len(candidates) + 1
            if _is_served(deployment, revision, variant, candidates, f"user-{number}"):
                return Call(f"user-{number}", context)
    return None


def _is_served(
    deployment: str, revision: Revision, variant: Variant, candidates: Sequence[tuple[str, float]], key: str
) -> bool:
    if not is_covered(revision.salt, deployment, key, revision.routing.coverage):
        return variant.uid == revision.routing.baseline
    return assign(revision.salt, key, candidates) == variant.uid


def needs_context(revision: Revision, variant: Variant) -> bool:
    """Whether it is by a rule that the variant serves, if at all."""
    return variant.active and any(
        rule.active and example_contexts.is_in(variant.uid, rule) for rule in revision.routing.rules
    )


def _as_called(revision: Revision) -> view.Revision:
    """As the services see it, but for what its variants serve, by which nothing is decided."""
    variants = [
        view.Variant(each.uid, each.number, each.slug, each.display_name, each.active, each.weight, _UNSEEN)
        for each in revision.variants
    ]
    return view.Revision(revision.uid, revision.number, revision.salt, tuple(variants), revision.routing)


_UNSEEN: Final = view.Recommendation("", view.UnknownUsers.POPULAR)


def snippets(
    kind: DeploymentKind,
    target: str,
    variables: dict[str, Json],
    call: Call,
    addresses: Addresses,
    to_change: Sequence[str] = (),
) -> tuple[Snippet, ...]:
    """All there are for a deployment of this kind.

    :param target: what callers name, such as `helper` or `helper:beta`
    :param variables: what they send
    :param to_change: what of the variables the deployment would refuse, in sentences: comments in the programs
    """
    if kind is DeploymentKind.RECOMMENDATION:
        return (
            Snippet("python-grpc", "Python, generated client", "python", _recommend(target, call, addresses)),
            Snippet("cli", "Command line", "bash", _recommend_cli(target, call, addresses)),
        )
    hashed, slashed = _comments("#", to_change), _comments("//", to_change)
    given = (target, variables, call, addresses)
    found = (
        Snippet("python-openai", "Python, OpenAI SDK", "python", hashed + _python(*given)),
        Snippet("node-openai", "Node, OpenAI SDK", "javascript", slashed + _node(*given)),
        Snippet("python-grpc", "Python, generated client", "python", hashed + _grpc(*given)),
        Snippet("curl", "cURL", "bash", hashed + _curl(*given)),
    )
    if any("=" in name or not name for name in variables):
        # The command line cannot say such names.
        return found
    return (*found, Snippet("cli", "Command line", "bash", hashed + _cli(*given)))


def _comments(mark: str, to_change: Sequence[str]) -> str:
    """One line each: what would end a line, or could not be seen, is escaped."""
    if not to_change:
        return ""
    shown = ["".join(each if each.isprintable() else ascii(each)[1:-1] for each in text) for text in to_change]
    # Two lines first: in those, Python would read a comment as the encoding of its source.
    lines = [f"{mark} Change these variables, or the call is refused:", mark, *(f"{mark} {text}" for text in shown)]
    return _lines(*lines)


def _python(target: str, variables: dict[str, Json], call: Call, addresses: Addresses) -> str:
    beside: dict[str, Json] = {}
    if variables:
        beside["input"] = variables
    if call.context:
        beside["context"] = call.context
    return _lines(
        "import os",
        "",
        "from openai import OpenAI",
        "",
        f'client = OpenAI(base_url={_text(addresses.http_url + "/v1")}, api_key=os.environ["TURNOUT_API_KEY"])',
        "answer = client.chat.completions.create(",
        f"    model={_text(f'turnout/deployment/{target}')},",
        f'    messages=[{{"role": "user", "content": {_text(_MESSAGE)}}}],',
        *([f"    user={_text(call.routing_key)},"] if call.routing_key else []),
        *([f"    extra_body={_literal(beside)},"] if beside else []),
        ")",
        "print(answer.choices[0].message.content)",
    )


def _node(target: str, variables: dict[str, Json], call: Call, addresses: Addresses) -> str:
    return _lines(
        'import OpenAI from "openai";',
        "",
        "const client = new OpenAI({",
        f"  baseURL: {_text(addresses.http_url + '/v1')},",
        "  apiKey: process.env.TURNOUT_API_KEY,",
        "});",
        "const answer = await client.chat.completions.create({",
        f"  model: {_text(f'turnout/deployment/{target}')},",
        f'  messages: [{{ role: "user", content: {_text(_MESSAGE)} }}],',
        *([f"  user: {_text(call.routing_key)},"] if call.routing_key else []),
        *([f"  input: {_text(variables)},"] if variables else []),
        *([f"  context: {_text(call.context)},"] if call.context else []),
        "});",
        "console.log(answer.choices[0].message.content);",
    )


def _grpc(target: str, variables: dict[str, Json], call: Call, addresses: Addresses) -> str:
    return _lines(
        "import json",
        "import os",
        "",
        "import grpc",
        "from turnout.chat.v1 import message_pb2",
        "from turnout.executor.v1 import execution_service_pb2 as pb",
        "from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub",
        "",
        f"channel = grpc.insecure_channel({_text(addresses.grpc_address)})",
        "answer = ExecutionServiceStub(channel).Run(",
        "    pb.RunRequest(",
        f"        deployment={_text(target)},",
        *([f"        variables_json=json.dumps({_literal(variables)}),"] if variables else []),
        f"        messages=[message_pb2.Message(role=message_pb2.ROLE_USER, content={_text(_MESSAGE)})],",
        *([f"        routing_key={_text(call.routing_key)},"] if call.routing_key else []),
        *([f"        context_json=json.dumps({_literal(call.context)}),"] if call.context else []),
        "    ),",
        *_CALL,
        "print(answer.message.content)",
    )


def _recommend(target: str, call: Call, addresses: Addresses) -> str:
    return _lines(
        *(["import json"] if call.context else []),
        "import os",
        "",
        "import grpc",
        "from turnout.inference.v1 import recommendation_service_pb2 as pb",
        "from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceStub",
        "",
        f"channel = grpc.insecure_channel({_text(addresses.grpc_address)})",
        "answer = RecommendationServiceStub(channel).Recommend(",
        "    pb.RecommendRequest(",
        f"        deployment={_text(target)},",
        f"        user_id={_text(call.routing_key or _USER)},",
        "        limit=10,",
        *([f"        context_json=json.dumps({_literal(call.context)}),"] if call.context else []),
        "    ),",
        *_CALL,
        "for item in answer.items:",
        "    print(item.item_id, item.score)",
    )


def _recommend_cli(target: str, call: Call, addresses: Addresses) -> str:
    user = shlex.quote(call.routing_key or _USER)
    return _command(f"recommend {shlex.quote(target)} {user}", addresses, _context_option(call))


def _cli(target: str, variables: dict[str, Json], call: Call, addresses: Addresses) -> str:
    options = [f"--variable {shlex.quote(f'{name}={_text(value)}')}" for name, value in variables.items()]
    options += _context_option(call)
    options += [f"--key {shlex.quote(call.routing_key)}"] if call.routing_key else []
    return _command(f"run {shlex.quote(target)} {shlex.quote(_MESSAGE)}", addresses, options)


def _context_option(call: Call) -> list[str]:
    return [f"--context {shlex.quote(_text(call.context))}"] if call.context else []


def _command(words: str, addresses: Addresses, options: Sequence[str]) -> str:
    return _lines(" \\\n  ".join((f"turnout --address {shlex.quote(addresses.grpc_address)} {words}", *options)))


_CALL: Final = (
    '    metadata=[("authorization", f"Bearer {os.environ[\'TURNOUT_API_KEY\']}")],',
    "    timeout=60,",
    ")",
)


def _curl(target: str, variables: dict[str, Json], call: Call, addresses: Addresses) -> str:
    body: dict[str, Json] = {
        "model": f"turnout/deployment/{target}",
        "messages": [{"role": "user", "content": _MESSAGE}],
    }
    if call.routing_key:
        body["user"] = call.routing_key
    if variables:
        body["input"] = variables
    if call.context:
        body["context"] = call.context
    return _lines(
        f"curl {shlex.quote(addresses.http_url + '/v1/chat/completions')} \\",
        '  -H "Authorization: Bearer $TURNOUT_API_KEY" -H "Content-Type: application/json" \\',
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}",
    )


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _text(value: Json) -> str:
    """A literal of JavaScript, and where it is text, of Python too."""
    # Line separators are line ends to JavaScript's older parsers; as escapes they are the same everywhere.
    return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _literal(value: Json) -> str:
    """A literal of Python."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)}: {_literal(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return str(value) if value is None or isinstance(value, bool) else _text(value)
