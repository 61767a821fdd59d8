from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic.script import ScriptDirectory

import services
from kit.migrations import migrate
from kit.schema_version import SchemaBehind, newest, require_current
from stack.postgres import Postgres

FOLDERS = sorted(Path(services.__file__).parent.glob("*/migrations"))

REVISION = """
from alembic import op

revision = "{number:04}"
down_revision = {before}


def upgrade() -> None:
    op.execute("CREATE TABLE table_{number} (id text PRIMARY KEY)")
"""


def revisions(folder: Path, count: int) -> Path:
    (folder / "versions").mkdir(parents=True)
    for number in range(1, count + 1):
        before = repr(f"{number - 1:04}") if number > 1 else None
        text = REVISION.format(number=number, before=before)
        (folder / "versions" / f"{number:04}_table.py").write_text(text)
    return folder


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_names_of_revisions_lead_where_alembic_goes(folder: Path) -> None:
    script = ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])

    assert newest(folder) == script.get_current_head()
    assert [revision.revision for revision in script.walk_revisions()] == sorted(
        (path.name[:4] for path in (folder / "versions").glob("*.py")), reverse=True
    )


def test_services_have_revisions() -> None:
    assert [folder.parent.name for folder in FOLDERS] == ["analytics", "executor", "registry"]


async def test_only_a_schema_at_this_version_is_current(postgres: Postgres, tmp_path: Path) -> None:
    postgres.create_database("schema_version")
    url = postgres.url("schema_version")
    older, newer = revisions(tmp_path / "older", 1), revisions(tmp_path / "newer", 2)

    with pytest.raises(SchemaBehind, match=r"'shop' is at no version, this code needs 0001: run `python -m services"):
        await require_current(url, schema="shop", folder=older)
    assert await migrate(url, schema="shop", folder=older) == "0001"
    await require_current(url, schema="shop", folder=older)
    with pytest.raises(SchemaBehind, match="'shop' is at 0001, this code needs 0002"):
        await require_current(url, schema="shop", folder=newer)
    assert await migrate(url, schema="shop", folder=newer) == "0002"
    with pytest.raises(SchemaBehind, match="'shop' is at 0002, this code needs 0001"):
        await require_current(url, schema="shop", folder=older)
    with pytest.raises(SchemaBehind, match="'other' is at no version"):
        await require_current(url, schema="other", folder=older)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute("INSERT INTO shop.alembic_version VALUES ('0001')")
    await connection.close()
    with pytest.raises(SchemaBehind, match="'shop' is at 0001 and 0002, this code needs 0002"):
        await require_current(url, schema="shop", folder=newer)


def test_who_serves_loads_no_alembic() -> None:
    program = (
        "import sys, services.process, services.registry.module, services.executor.store, services.analytics.module\n"
        "print(sorted({'sqlalchemy', 'alembic', 'mako'} & set(sys.modules)))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert ran.stdout.strip() == "['sqlalchemy']"
