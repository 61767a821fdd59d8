"""Scene one: two prompts behind one name, called by the generated client and by the OpenAI SDK."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Final

from rich.text import Text

from cli import output
from cli.demo.stage import PROJECT, Failed, Stage
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as run_pb
from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2, provider_pb2, provider_service_pb2
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

DEPLOYMENT: Final = "travel-assistant"
CALLS: Final = 20
_PROMPTS: Final = (
    ("Plain", 90, "You are an expert on {{ country }}. Answer in {{ language }}, in one short sentence."),
    ("Warm", 10, "You are an expert on {{ country }}. Answer in {{ language }}, beginning with: Dear traveller,"),
)
_COUNTRIES: Final = ("France", "Japan", "Peru", "Kenya", "Norway")
_QUESTION: Final = "What is the capital city of this country?"
_AT_ONCE: Final = 2
"""As many as the local LLM computes side by side."""


def play(stage: Stage) -> int:
    """How many calls were made.

    :raises Failed: if one of them did not go as shown
    """
    _furnish(stage)
    _stream(stage, _call(stage))
    return CALLS + 1


def _furnish(stage: Stage) -> None:
    stage.title(f"Two prompts behind one name, {DEPLOYMENT}")
    channel, parent = stage.client.channel("registry"), f"projects/{PROJECT}"
    ProviderServiceStub(channel).CreateProvider(
        provider_service_pb2.CreateProviderRequest(
            parent=parent,
            provider_id="local",
            provider=provider_pb2.Provider(kind=provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE, base_url=stage.llm_url),
        )
    )
    deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION)
    for name, weight, prompt in _PROMPTS:
        variant = deployment.variants.add(display_name=name, weight=weight)
        version = variant.completion.new_version
        version.provider, version.model = "local", stage.llm_model
        version.parameters.max_output_tokens, version.parameters.temperature = 40, 0.2
        version.messages.add(role=message_pb2.ROLE_SYSTEM, content=prompt)
        variant.completion.max_retries = 2
    DeploymentServiceStub(channel).CreateDeployment(
        deployment_service_pb2.CreateDeploymentRequest(parent=parent, deployment_id=DEPLOYMENT, deployment=deployment)
    )
    stage.turnout("deployments", "show", DEPLOYMENT)


def _call(stage: Stage) -> str:
    """The variant of user-1."""
    stage.title(f"{CALLS} calls through the generated gRPC client: {_QUESTION}")
    stub = ExecutionServiceStub(stage.client.channel("executor"))
    served: Counter[str] = Counter()
    first = ""
    asked = list(enumerate(islice(cycle(_COUNTRIES), CALLS), start=1))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda call: _asked(stub, *call), asked)
        for (number, country), answer in zip(asked, answers, strict=True):
            variant = answer.decision.variant_slug
            served[variant] += 1
            first = first or variant
            text = " ".join(answer.message.content.split())
            if not text:
                raise Failed(f"the call for user-{number} has no answer")
            line = Text(f"  user-{number:<3} {country:<7} ").append(f"{variant:<6}", style="cyan")
            output.screen.print(line.append(f" {_short(text)}"), soft_wrap=True)
    shares = ", ".join(f"{variant} {count}" for variant, count in served.most_common())
    output.say(f"Served by: {shares}.")
    return first


def _asked(stub: ExecutionServiceStub, number: int, country: str) -> run_pb.RunResponse:
    answer: run_pb.RunResponse = stub.Run(
        run_pb.RunRequest(
            deployment=DEPLOYMENT,
            variables_json=json.dumps({"country": country, "language": "English"}),
            messages=[message_pb2.Message(role=message_pb2.ROLE_USER, content=_QUESTION)],
            routing_key=f"user-{number}",
        ),
        timeout=120,
    )
    return answer


def _stream(stage: Stage, variant: str) -> None:
    stage.title("The same name through the official OpenAI SDK, streamed over HTTP")
    from openai import OpenAI

    output.screen.print("  ", end="")
    words, last = 0, None
    with OpenAI(base_url=f"{stage.http_url}/v1", api_key=stage.key, timeout=120, max_retries=0) as sdk:
        with sdk.chat.completions.create(
            model=f"turnout/deployment/{DEPLOYMENT}",
            messages=[{"role": "user", "content": _QUESTION}],
            user="user-1",
            stream=True,
            extra_body={"input": {"country": "Iceland", "language": "English"}},
        ) as stream:
            for chunk in stream:
                last = chunk
                for choice in chunk.choices:
                    if choice.delta.content:
                        words += 1
                        output.screen.print(Text(choice.delta.content), end="", soft_wrap=True)
    output.say("")
    if not words or last is None:
        raise Failed("the streamed answer is empty")
    served = (last.model_extra or {}).get("turnout", {}).get("variant")
    if served != variant:
        raise Failed(f"user-1 was served by {variant}, and now by {served}")
    output.say(f"{words} pieces. Served by {served}, as user-1 was before: the same user always gets the same prompt.")


def _short(text: str, limit: int = 96) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
