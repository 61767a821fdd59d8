from __future__ import annotations

import asyncio
import uuid
from typing import Any

from kit.errors import Exists, Invalid
from turnout.registry.v1 import project_service_pb2 as pb


async def test_a_project_is_found_by_slug_uid_and_number(registry: Any) -> None:
    made = await registry.platform.call("CreateProject", pb.CreateProjectRequest(project_id=f"p{uuid.uuid4().hex[:8]}"))

    for segment in (made.name.rpartition("/")[2], made.uid, str(made.number)):
        assert await registry.platform.call("GetProject", pb.GetProjectRequest(name=f"projects/{segment}")) == made


async def test_numbers_count_without_gaps_even_over_dry_runs_and_failures(
    own_database: str, new_keys: Any, start: Any
) -> None:
    async with start(own_database, new_keys()) as registry:
        create = registry.platform.call
        for slug in ("first", "second"):
            await create("CreateProject", pb.CreateProjectRequest(project_id=slug, validate_only=True))
            await create("CreateProject", pb.CreateProjectRequest(project_id=slug))
            assert isinstance(
                await registry.platform.fails("CreateProject", pb.CreateProjectRequest(project_id=slug)), Exists
            )
        await asyncio.gather(
            *(create("CreateProject", pb.CreateProjectRequest(project_id=f"more-{index}")) for index in range(5))
        )
        listed = await create("ListProjects", pb.ListProjectsRequest())

    assert [project.number for project in listed.projects] == list(range(1, 8))


async def test_a_key_of_a_project_sees_its_own_project_and_a_platform_key_sees_all(registry: Any, shop: Any) -> None:
    mine = await shop.call("ListProjects", pb.ListProjectsRequest())
    everybodys = await registry.platform.call("ListProjects", pb.ListProjectsRequest(page_size=5000))

    assert [project.name for project in mine.projects] == [f"projects/{shop.project}"]
    assert f"projects/{shop.project}" in [project.name for project in everybodys.projects]
    assert len(everybodys.projects) >= 1


async def test_a_bad_slug_is_invalid(registry: Any) -> None:
    for slug in ("a", "1a", "a-", "A1", "a_b", "a" * 41, "", "a\0b"):
        error = await registry.platform.fails("CreateProject", pb.CreateProjectRequest(project_id=slug))
        assert isinstance(error, Invalid)
        assert error.violations[0].field == "project_id"


async def test_a_repeated_request_answers_the_first_project(registry: Any) -> None:
    slug = f"p{uuid.uuid4().hex[:8]}"
    request = pb.CreateProjectRequest(project_id=slug, request_id=str(uuid.uuid4()))

    made = await registry.platform.call("CreateProject", request)

    assert await registry.platform.call("CreateProject", request) == made
    request.project.display_name = "other"
    assert (await registry.platform.fails("CreateProject", request)).reason == "REQUEST_ID_REUSED"
