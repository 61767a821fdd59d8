"""What a call lays over its deployment, as it reaches the providers."""

from __future__ import annotations

from typing import Any

from completions.chat import Message, Role
from completions.version import Parameters, Version, version_id
from tests.services.executor.conftest import deployment_entry
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.registry.v1 import version_pb2

FIND = '[{"type":"function","function":{"name":"find"}}]'
LOOK = '[{"type":"function","function":{"name":"look"}}]'


async def test_what_is_laid_over_wins_at_fallbacks_even_where_the_version_says_the_same(room: Any) -> None:
    own = Parameters(temperature=0.5, max_output_tokens=64)
    content = Version("main", "test-model", (Message(Role.USER, "What is the capital of {{ country }}?"),), own)
    version = room.version_entry()
    version.version.version.uid = version_id(content)
    version.key = f"version/prj_shop/{version.version.version.uid}"
    deployment = deployment_entry(version=version.version.version.uid)
    deployment.deployment.revisions[0].variants[0].completion.fallbacks.add(
        provider="prv_main", model="spare", parameters=version_pb2.Parameters(temperature=1, top_p=0.1)
    )
    await room.put(version, deployment)
    room.upstream.then(room.upstream.http(503, {"error": {"message": "overloaded"}}))

    over = pb.Overrides(parameters=version_pb2.Parameters(temperature=0.5))
    answer = await room.run(overrides=over)

    first, spare = (request.body for request in room.upstream.received)
    assert (first["model"], first["temperature"]) == ("test-model", 0.5)
    assert (spare["model"], spare["temperature"], spare["top_p"]) == ("spare", 0.5, 0.1)
    assert answer.version == version.version.version.uid, "nothing was changed, so it is no version of its own"
    told = await room.stub.GetConfig(
        pb.GetConfigRequest(
            run=pb.RunRequest(deployment="assistant", variables_json='{"country":"France"}', overrides=over)
        ),
        metadata=(("authorization", f"Bearer {room.key}"),),
        timeout=10,
    )
    assert '"temperature":0.5' in str(told).replace("\\", "")
    assert '"temperature":1.0' not in str(told).replace("\\", "")


async def test_a_choice_of_the_version_that_a_call_leaves_no_tools_for_is_not_sent(room: Any) -> None:
    named = '{"type":"function","function":{"name":"look"}}'
    await room.put_deployment(extra={"tools_json": LOOK, "tool_choice_json": named})
    await room.run(overrides=pb.Overrides(tools_json="[]"))
    await room.run(overrides=pb.Overrides(tools_json=FIND))
    await room.run()
    bare, other, own = (request.body for request in room.upstream.received)
    assert not {"tools", "tool_choice"} & bare.keys()
    assert other["tools"][0]["function"]["name"] == "find"
    assert "tool_choice" not in other
    assert (own["tools"][0]["function"]["name"], own["tool_choice"]["function"]["name"]) == ("look", "look")
