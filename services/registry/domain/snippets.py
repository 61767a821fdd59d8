"""Programs that call a deployment. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from catalog import view
from catalog.assignment import assign, is_covered
from catalog.plan import Planner
from kit.json import Json
from services.registry.domain.deployments import DeploymentKind, Revision, Variant

_MAX_HASHES: Final = 200_000
"""How long a caller is looked for: at about 1 µs each."""
_MESSAGE: Final = "Hello!"


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


def caller_of(deployment: str, revision: Revision, variant: Variant) -> str | None:
    """A routing key that the variant serves in calls without a context, as those of the snippets are: `user-1`,
    `user-2` … None if there is none, or none was found soon.

    :param deployment: uid of the revision's
    """
    # Rules do not look at the key, so the first decision tells between whom all others draw.
    called = _as_called(revision)
    candidates = [(each.uid, weight) for each, weight in Planner().choose(called, deployment, "", {}).candidates]
    routing = revision.routing
    is_candidate = variant.uid in [uid for uid, _ in candidates]
    is_baseline = variant.active and variant.uid == routing.baseline and routing.coverage < 1
    if not is_baseline and not is_candidate:
        return None
    for number in range(1, _MAX_HASHES // (len(candidates) + 1) + 1):
        key = f"user-{number}"
        if not is_covered(revision.salt, deployment, key, routing.coverage):
            if is_baseline:
                return key
        elif is_candidate and assign(revision.salt, key, candidates) == variant.uid:
            return key
    return None


def needs_context(revision: Revision, variant: Variant) -> bool:
    """Whether it is by a rule that the variant serves, if at all."""
    return variant.active and any(
        rule.active and share.variant == variant.uid and share.weight > 0
        for rule in revision.routing.rules
        for share in rule.shares
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
    routing_key: str,
    addresses: Addresses,
    to_change: Sequence[str] = (),
) -> tuple[Snippet, ...]:
    """All there are for a deployment of this kind.

    :param target: what callers name, such as `helper` or `helper:beta`
    :param variables: what they send
    :param routing_key: the caller; empty for nobody in particular
    :param to_change: what of the variables the deployment would refuse, in sentences: comments in the programs
    """
    if kind is DeploymentKind.RECOMMENDATION:
        return (
            Snippet("python-grpc", "Python, generated client", "python", _recommend(target, routing_key, addresses)),
        )
    hashed, slashed = _comments("#", to_change), _comments("//", to_change)
    given = (target, variables, routing_key, addresses)
    return (
        Snippet("python-openai", "Python, OpenAI SDK", "python", hashed + _python(*given)),
        Snippet("node-openai", "Node, OpenAI SDK", "javascript", slashed + _node(*given)),
        Snippet("python-grpc", "Python, generated client", "python", hashed + _grpc(*given)),
        Snippet("curl", "cURL", "bash", hashed + _curl(*given)),
    )


def _comments(mark: str, to_change: Sequence[str]) -> str:
    """One line each: what would end a line, or could not be seen, is escaped."""
    if not to_change:
        return ""
    shown = ["".join(each if each.isprintable() else ascii(each)[1:-1] for each in text) for text in to_change]
    # Two lines first: in those, Python would read a comment as the encoding of its source.
    lines = [f"{mark} Change these variables, or the call is refused:", mark, *(f"{mark} {text}" for text in shown)]
    return _lines(*lines)


def _python(target: str, variables: dict[str, Json], routing_key: str, addresses: Addresses) -> str:
    return _lines(
        "import os",
        "",
        "from openai import OpenAI",
        "",
        f'client = OpenAI(base_url={_text(addresses.http_url + "/v1")}, api_key=os.environ["TURNOUT_API_KEY"])',
        "answer = client.chat.completions.create(",
        f"    model={_text(f'turnout/deployment/{target}')},",
        f'    messages=[{{"role": "user", "content": {_text(_MESSAGE)}}}],',
        *([f"    user={_text(routing_key)},"] if routing_key else []),
        *([f'    extra_body={{"input": {_literal(variables)}}},'] if variables else []),
        ")",
        "print(answer.choices[0].message.content)",
    )


def _node(target: str, variables: dict[str, Json], routing_key: str, addresses: Addresses) -> str:
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
        *([f"  user: {_text(routing_key)},"] if routing_key else []),
        *([f"  input: {_text(variables)},"] if variables else []),
        "});",
        "console.log(answer.choices[0].message.content);",
    )


def _grpc(target: str, variables: dict[str, Json], routing_key: str, addresses: Addresses) -> str:
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
        *([f"        routing_key={_text(routing_key)},"] if routing_key else []),
        "    ),",
        *_CALL,
        "print(answer.message.content)",
    )


def _recommend(target: str, routing_key: str, addresses: Addresses) -> str:
    return _lines(
        "import os",
        "",
        "import grpc",
        "from turnout.inference.v1 import recommendation_service_pb2 as pb",
        "from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceStub",
        "",
        f"channel = grpc.insecure_channel({_text(addresses.grpc_address)})",
        "answer = RecommendationServiceStub(channel).Recommend(",
        f"    pb.RecommendRequest(deployment={_text(target)}, user_id={_text(routing_key or 'user-1')}, limit=10),",
        *_CALL,
        "for item in answer.items:",
        "    print(item.item_id, item.score)",
    )


_CALL: Final = (
    '    metadata=[("authorization", f"Bearer {os.environ[\'TURNOUT_API_KEY\']}")],',
    "    timeout=60,",
    ")",
)


def _curl(target: str, variables: dict[str, Json], routing_key: str, addresses: Addresses) -> str:
    body: dict[str, Json] = {
        "model": f"turnout/deployment/{target}",
        "messages": [{"role": "user", "content": _MESSAGE}],
    }
    if routing_key:
        body["user"] = routing_key
    if variables:
        body["input"] = variables
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
