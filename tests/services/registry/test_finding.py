"""Deployments are found by words, and listed in any order."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from kit import database
from kit.changelog import ChangeLog
from kit.errors import Invalid
from kit.paging import PageRequest
from services.registry import domain, tables
from services.registry.domain import DeploymentSearch, Order, Project, Record, SortKey, order_of, words_of
from services.registry.store import PostgresStore, finding
from stack.postgres import Postgres

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT = Project("prj_a", 1, "shop", "Shop", Record(NOW, NOW, 1, 1))
COLUMNS = (
    "uid",
    "slug",
    "search_text",
    "first_provider",
    "first_model",
    "created_in",
    "updated_at",
    "archived_at",
)


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A deployment's columns."""
    made = {
        "uid": f"dep_{number:026d}",
        "slug": f"d{number}",
        "search_text": "",
        "first_provider": "",
        "first_model": "",
        "created_in": number,
        "updated_at": NOW,
        "archived_at": None,
    }
    return made | fields


class Deployments:
    """Deployments that are rows alone: without revisions, in one project."""

    def __init__(self, connection: asyncpg.Connection, store: PostgresStore) -> None:
        self._connection = connection
        self.store = store

    async def put(self, rows: Sequence[dict[str, Any]], project: str = PROJECT.uid) -> None:
        """Add them."""
        await self.execute(
            f"INSERT INTO {tables.SCHEMA}.projects VALUES ('{project}', {ord(project[-1])}, '{project}', '',"
            " now(), now(), 1, 1) ON CONFLICT DO NOTHING"
        )
        same = {
            "project": project,
            "kind": "completion",
            "display_name": "",
            "description": "",
            "creator": "",
            "protected": False,
            "created_at": NOW,
            "changed_in": 1,
        }
        await self._connection.copy_records_to_table(
            "deployments",
            schema_name=tables.SCHEMA,
            columns=[*COLUMNS, *same],
            records=[(*(each[name] for name in COLUMNS), *same.values()) for each in rows],
        )

    async def execute(self, statement: str) -> Any:
        """Of SQL."""
        return await self._connection.fetch(statement)

    async def found(self, filter_text: str = "", order_by: str = "", *, size: int = 1000) -> list[str]:
        """Slugs, over all pages."""
        return [deployment.slug async for deployment in self.walk(filter_text, order_by, size=size)]

    async def walk(self, filter_text: str = "", order_by: str = "", *, size: int = 1000) -> AsyncIterator[Any]:
        """Deployments, over all pages: every page is a transaction of its own."""
        search, after = DeploymentSearch(words_of(filter_text), order_of(order_by)), None
        while True:
            async with self.store.reading() as tx:
                page, has_more = await tx.deployments(PROJECT, PageRequest(size, after), search, max_bytes=3 << 20)
            for deployment, _ in page:
                yield deployment
            if not has_more:
                return
            after = page[-1][1]


@asynccontextmanager
async def _deployments(url: str) -> AsyncIterator[Deployments]:
    async with database.sessions(url, schema=tables.SCHEMA) as sessions:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            yield Deployments(connection, PostgresStore(sessions, ChangeLog(tables.SCHEMA)))
        finally:
            await connection.close()


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ("", Order(SortKey.CREATE_TIME)),
        ("name", Order(SortKey.NAME)),
        ("model asc", Order(SortKey.MODEL)),
        ("  update_time   desc ", Order(SortKey.UPDATE_TIME, is_descending=True)),
    ],
)
def test_an_order_is_a_key_and_a_direction(asked: str, order: Order) -> None:
    assert order_of(asked) == order


@pytest.mark.parametrize("asked", ["Name", "weight", "name DESC", "name desc asc", "name, model", "desc", "name;--"])
def test_another_order_is_refused_with_those_that_there_are(asked: str) -> None:
    with pytest.raises(Invalid) as failure:
        order_of(asked)

    assert (failure.value.reason, failure.value.violations[0].field) == ("ORDER_BY_INVALID", "order_by")
    assert all(key in failure.value.message for key in SortKey)


def test_a_filter_is_its_distinct_words_whatever_their_case_and_form() -> None:
    assert words_of(" Straße  gpt-4o\tGPT-4O é E\u0301 ") == ("strasse", "gpt-4o", "é")
    assert len(words_of(" ".join(str(number) for number in range(20)))) == 20
    with pytest.raises(Invalid) as failure:
        words_of(" ".join(str(number) for number in range(21)))
    assert failure.value.reason == "FILTER_TOO_LONG"


@given(st.lists(st.text(max_size=50)))
def test_every_word_of_the_parts_is_in_the_searchable_text_once(parts: list[str]) -> None:
    words = domain.searchable_text(parts).split(" ")

    assert len(set(words)) == len(words)
    assert all(word in words for part in parts for word in words_of_any(part))


def words_of_any(part: str) -> list[str]:
    return [each for word in part.split() for each in words_of(word)]


def test_the_searchable_text_is_bounded_and_ends_with_a_whole_word() -> None:
    written = domain.searchable_text(f"wörd{number}" for number in range(20_000))

    assert (1 << 16) - 20 < len(written.encode()) < 1 << 16
    assert set(written.split()) < {f"wörd{number}" for number in range(20_000)}


TEXTS = {
    "d1": "checkout-helper Checkout helper gpt-4o openai polite/answers",
    "d2": "returns Rücksendungen claude-sonnet anthropic",
    "d3": "100%_sure 'quoted' back\\slash <b> & | ! : * ( )",
    "d4": "checkouts mistral",
}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("checkout", ["d1", "d4"]),
        ("CHECK", ["d1", "d4"]),
        ("helper gpt", ["d1"]),
        ("gpt-4o", ["d1"]),
        ("4o", ["d1"]),
        ("swers", ["d1"]),
        ("openai mistral", []),
        ("rücksendung", ["d2"]),
        ("RÜCK", ["d2"]),
        ("misstral", ["d4"]),
        ("anthropik", ["d2"]),
        ("gpt-4", ["d1"]),
        ("gpt-5", []),
        ("zzzz", []),
        ("%", ["d3"]),
        ("_", ["d3"]),
        ("%_", ["d3"]),
        ("c%t", []),
        ("c_eckout", []),
        ("'quoted'", ["d3"]),
        ("'", ["d3"]),
        ("\\", ["d3"]),
        ("back\\slash", ["d3"]),
        ("& | ! : * ( ) <", ["d3"]),
        (":*", []),
        ("'); drop", []),
        ("a:* | !b", []),
        ("''", []),
        ("😀", []),
        ("x" * 500, []),
        ("ﬃ" * 500, []),
        ("' " * 250, ["d3"]),
    ],
)
async def test_words_are_found_as_beginnings_parts_and_nearly_and_are_never_a_language(
    few: Deployments, asked: str, found: list[str]
) -> None:
    assert await few.found(asked) == found


@pytest.fixture
async def few(database_url: str) -> AsyncIterator[Deployments]:
    """Those of TEXTS, and the same ones in another project."""
    async with _deployments(database_url) as made:
        if not await made.execute(f"SELECT FROM {tables.SCHEMA}.deployments"):
            rows = [row(n, slug=slug, search_text=each) for n, (slug, each) in enumerate(TEXTS.items())]
            await made.put(rows)
            others = [
                each | {"uid": each["uid"].replace("dep_0", "dep_1"), "slug": f"other-{n}"}
                for n, each in enumerate(rows)
            ]
            await made.put(others, "prj_b")
        yield made


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=500))
def test_no_text_is_an_error(asked: str, database_url: str) -> None:
    async def search() -> None:
        async with _deployments(database_url) as made:
            await made.found(asked)

    if len(asked.split()) <= 20:
        asyncio.run(search())


KEYS = st.one_of(
    st.just(""), st.sampled_from(["a", "A", "ä", "z", "-", "_", "a b", "ß", "😀", "\u0001"]), st.text(max_size=5)
)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", "main", "openai", "a-b", "a_b", "ab"]),
        KEYS.filter(lambda each: "\0" not in each and each.isprintable()),
        st.integers(0, 3),
    ),
    max_size=25,
)
SORT = {
    SortKey.NAME: lambda each: each["slug"],
    SortKey.PROVIDER: lambda each: each["first_provider"],
    SortKey.MODEL: lambda each: each["first_model"],
    SortKey.CREATE_TIME: lambda each: each["created_in"],
    SortKey.UPDATE_TIME: lambda each: each["updated_at"],
}
_made = itertools.count(1)


@pytest.mark.parametrize("key", SortKey)
@pytest.mark.parametrize("direction", ["", " asc", " desc"])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=ROWS, meanwhile=ROWS, size=st.integers(1, 7))
def test_pages_are_a_simple_sort_and_inserts_meanwhile_hide_and_repeat_nothing(
    own_database: str, key: SortKey, direction: str, before: Any, meanwhile: Any, size: int
) -> None:
    def rows(drawn: Any) -> list[dict[str, Any]]:
        made = []
        for provider, model, seconds in drawn:
            number = next(_made)
            # Slugs, and uids, in no order that follows from the others.
            mixed = random.Random(number).randrange(10**9)
            made.append(
                row(
                    mixed,
                    slug="".join(random.Random(mixed).choices("ab-_09", k=6)) + f"-{number}",
                    first_provider=provider,
                    first_model=model,
                    created_in=number,
                    updated_at=NOW + timedelta(microseconds=seconds),
                )
            )
        return made

    async def check() -> None:
        first, later = rows(before), rows(meanwhile)
        async with _deployments(own_database) as deployments:
            await deployments.execute(f"DELETE FROM {tables.SCHEMA}.deployments")
            await deployments.put(first)
            pending = list(later)
            seen = []
            async for deployment in deployments.walk("", f"{key}{direction}", size=size):
                seen.append(deployment.slug)
                if pending:
                    await deployments.put([pending.pop()])
        expected = sorted(first, key=lambda each: (SORT[key](each), each["uid"]), reverse=direction == " desc")
        known = {each["slug"] for each in first}
        assert [slug for slug in seen if slug in known] == [each["slug"] for each in expected]
        assert len(set(seen)) == len(seen)

    asyncio.run(check())


COUNT = 10_000
SYLLABLES = [first + second for first in "bcdfghjklmnprstvwxz" for second in "aeiou"]
MODELS = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "mistral-large", "llama3.1:8b", "qwen2.5-coder"]


def generated(number: int) -> dict[str, Any]:
    """One of many: of 20 words, of which some are in every text, some in many, and most in few."""
    chance = random.Random(number)
    words = ["".join(chance.choices(SYLLABLES, k=chance.choice((3, 3, 3, 4)))) for _ in range(14)]
    common = chance.choices(["support", "checkout", "billing", "search", "summary"], k=2)
    provider, model = chance.choice(["openai", "anthropic", "local"]), chance.choice(MODELS)
    slug = f"{words[0]}-{common[0]}-{number:05d}"
    return row(
        number,
        slug=slug,
        search_text=domain.searchable_text([slug, *words, *common, "assistant", "variant", "1", provider, model]),
        first_provider=provider,
        first_model=model,
        updated_at=NOW + timedelta(seconds=chance.randrange(10**6)),
    )


async def plan_and_time(many: Deployments, asked: str, order_by: str) -> tuple[str, float]:
    """The plan of the first page, and how many milliseconds it takes at best."""
    search = DeploymentSearch(words_of(asked), order_of(order_by))
    query = finding._query(tables.deployments, PROJECT, PageRequest(50, None), search)
    async with many.store.sessions() as session:
        dialect = (await session.connection()).dialect
        written = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        if asked:
            await session.execute(finding._PLAN_FOR_WORDS)
        lines = (await session.execute(text("EXPLAIN ANALYZE " + written.replace(":", "\\:")))).scalars().all()
    # By the database's own clock: what this process waits for beside it, other tests' work included, says nothing.
    [told] = [line for line in lines if line.startswith("Execution Time")]
    return "\n".join(lines), float(told.split()[2])


@pytest.fixture(scope="module")
def many_url(postgres: Postgres, migrated: Callable[[Postgres, str], Awaitable[str]]) -> str:
    """A database with 10,000 deployments."""

    async def fill() -> str:
        url = await migrated(postgres, f"registry_many_{os.getpid()}")
        async with _deployments(url) as many:
            # Without the indexes, and then with them: seconds less than row by row.
            indexes = await many.execute(
                "SELECT indexname, indexdef FROM pg_indexes"
                f" WHERE schemaname = '{tables.SCHEMA}' AND tablename = 'deployments' AND indexdef LIKE '%gin%'"
            )
            assert len(indexes) == 2
            for name, _ in indexes:
                await many.execute(f"DROP INDEX {tables.SCHEMA}.{name}")
            await many.put([generated(number) for number in range(COUNT)])
            for _, definition in indexes:
                await many.execute(definition)
            await many.execute(f"ANALYZE {tables.SCHEMA}.deployments")
        return url

    return asyncio.run(fill())


async def test_ten_thousand_deployments_are_searched_by_index_within_50_ms(many_url: str) -> None:
    needle = generated(7311)
    slug, word = needle["slug"], needle["search_text"].split()[3]
    async with _deployments(many_url) as many:
        for asked in (slug, slug[2:], word, word[1:], f"{word[:4]}q{word[4:]}", f"{word} openai llama"):
            plan, milliseconds = await plan_and_time(many, asked, "model desc")
            assert plan.count("Bitmap Index Scan") >= 2, (asked, plan)
            assert "Seq Scan" not in plan, (asked, plan)
            assert milliseconds < 50, (asked, plan)
        assert slug in await many.found(f"{word} openai llama")


async def test_ten_thousand_deployments_are_sorted_by_index(many_url: str) -> None:
    async with _deployments(many_url) as many:
        for key, direction in itertools.product(SortKey, ("", " desc")):
            plan, _ = await plan_and_time(many, "", f"{key}{direction}")
            # Names have an index in the database's collation only.
            assert ("Index Scan" in plan) is (key is not SortKey.NAME), plan
