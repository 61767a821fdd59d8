from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from kit import database
from kit.changelog import ChangeLog
from kit.database import Sessions
from stack.postgres import Postgres
from tests.kit.changelog.logs import SCHEMA, new_log


@pytest.fixture
async def url(postgres: Postgres) -> str:
    return await new_log(postgres, f"log_{uuid.uuid4().hex}")


@pytest.fixture
async def sessions(url: str) -> AsyncIterator[Sessions]:
    async with database.sessions(url, schema=SCHEMA) as opened:
        yield opened


@pytest.fixture
def log() -> ChangeLog:
    return ChangeLog(SCHEMA)
