"""Lists of deployments: what they are filtered by, and the order that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, Table, and_, func, literal, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from kit.paging import Cursor, PageRequest
from services.registry import tables
from services.registry.convert.execution import fallback_names
from services.registry.domain import (
    LIVE,
    MAX_KEY_LENGTH,
    Deployment,
    DeploymentSearch,
    Order,
    Project,
    SortKey,
    searchable_text,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_MICROSECONDS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_MIN_MICROSECONDS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_MIN_SIMILAR_LETTERS: Final = 4
_MIN_SIMILARITY: Final = "0.6"
"""Of pg_trgm's word_similarity, from 0 to 1."""
_MAX_LEXEME_BYTES: Final = 2000
"""Postgres refuses to look for longer ones (2046)."""

# For these very words, since a plan that suits any would not use the indexes for rare ones. And not row after row if
# there is any index: Postgres counts nanoseconds for an operator, but whether a word is nearly in a text takes 20 µs.
_PLAN_FOR_WORDS: Final = select(
    func.set_config("plan_cache_mode", "force_custom_plan", True),
    func.set_config("enable_seqscan", "off", True),
    func.set_config("pg_trgm.word_similarity_threshold", _MIN_SIMILARITY, True),
)


async def deployment_rows(
    session: AsyncSession, project: Project, page: PageRequest, search: DeploymentSearch
) -> Sequence[Row[Any]]:
    """Rows of `deployments`, one more than the page if there are more."""
    table = tables.deployments
    if search.words:
        await session.execute(_PLAN_FOR_WORDS)
    found: Sequence[Row[Any]] = (await session.execute(_query(table, project, page, search))).all()
    return found


def cursor_of(row: Row[Any], order: Order) -> Cursor:
    """The sort key of a row: its first part as :attr:`Order.is_numeric` says, its second the uid."""
    key = row._mapping[_column(tables.deployments, order.key)]
    return ((key - _EPOCH) // _MICROSECOND if isinstance(key, datetime) else key, row.uid)


def _query(table: Table, project: Project, page: PageRequest, search: DeploymentSearch) -> Select[Any]:
    order = search.order
    query = select(table).where(table.c.project == project.uid)
    if not search.with_archived:
        query = query.where(table.c.archived_at.is_(None))
    if search.words:
        # By itself, or the planner may walk the order's index and try the words on row after row.
        matching = select(table.c.uid).where(table.c.project == project.uid, and_(*map(_occurs, search.words)))
        found = matching.cte("matching").prefix_with("MATERIALIZED", dialect="postgresql")
        query = query.where(table.c.uid.in_(select(found.c.uid)))
    column = _sortable(_column(table, order.key))
    if page.after is not None:
        after = tuple_(literal(_key(page.after[0], order), column.type), literal(page.after[1], table.c.uid.type))
        keys = tuple_(column, table.c.uid)
        query = query.where(keys < after if order.is_descending else keys > after)
    if order.is_descending:
        query = query.order_by(column.desc(), table.c.uid.desc())
    else:
        query = query.order_by(column, table.c.uid)
    return query.limit(page.size + 1)


def _occurs(word: str) -> ColumnElement[bool]:
    """Whether the word is in a row's text: as the beginning of a word, within one, or nearly one."""
    table = tables.deployments
    ways: list[ColumnElement[bool]] = []
    if len(word.encode()) <= _MAX_LEXEME_BYTES:
        # In quotes nothing is an operator; within them both of these are doubled.
        quoted = word.replace("\\", "\\\\").replace("'", "''")
        ways.append(table.c.search.op("@@")(func.to_tsquery(text("'simple'"), f"'{quoted}':*")))
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    ways.append(table.c.search_text.ilike(f"%{escaped}%"))
    if sum(map(str.isalpha, word)) >= _MIN_SIMILAR_LETTERS and not any(map(str.isdigit, word)):
        # What has a number in it is meant as it is written: `gpt-4` is not `gpt-5`.
        ways.append(table.c.search_text.op("OPERATOR(public.%>)", is_comparison=True)(word))
    return or_(*ways)


def _column(table: Table, key: SortKey) -> Any:
    return {
        SortKey.NAME: table.c.slug,
        SortKey.PROVIDER: table.c.first_provider,
        SortKey.MODEL: table.c.first_model,
        # The order of commits: clocks of two registries may differ.
        SortKey.CREATE_TIME: table.c.created_in,
        SortKey.UPDATE_TIME: table.c.updated_at,
    }[key]


def _sortable(column: Any) -> Any:
    # The same order everywhere. The other columns have this collation already.
    return column.collate("C") if column is tables.deployments.c.slug else column


def _key(part: int | str, order: Order) -> int | str | datetime:
    if order.key is not SortKey.UPDATE_TIME:
        return part
    return _EPOCH + min(max(int(part), _MIN_MICROSECONDS), _MAX_MICROSECONDS) * _MICROSECOND


async def search_values(session: AsyncSession, deployment: Deployment) -> dict[str, str]:
    """The columns that a deployment is found and sorted by. The revisions that its aliases point to are stored."""
    of, version, provider = tables.revision_variants, tables.versions, tables.providers
    prompt, model = tables.prompts, tables.models
    own = (of.c.revision, of.c.active, of.c.display_name, of.c.execution)
    columns = (*own, version.c.model.label("runs"), provider.c.slug.label("provider"))
    query = (
        select(*columns, prompt.c.slug.label("prompt"), model.c.display_name.label("model"), model.c.algorithm)
        .outerjoin(version, and_(version.c.project == of.c.project, version.c.uid == of.c.version))
        .outerjoin(provider, provider.c.uid == version.c.provider)
        .outerjoin(prompt, prompt.c.uid == of.c.prompt)
        .outerjoin(model, and_(model.c.project == of.c.project, model.c.uid == of.c.model))
        .where(of.c.revision.in_({alias.revision for alias in deployment.aliases}))
        .order_by(of.c.revision, of.c.position)
    )
    variants = (await session.execute(query)).all()
    parts = [deployment.slug, deployment.display_name, deployment.description]
    for row in variants:
        texts = (row.display_name, row.provider, row.runs, row.prompt, row.model, row.algorithm)
        parts += [each for each in texts if each]
        parts += [name for names in fallback_names(row.execution or b"") for name in names]
    live = next((alias.revision for alias in deployment.aliases if alias.alias == LIVE), "")
    first = next((row for row in variants if row.revision == live and row.active), None)
    return {
        "search_text": searchable_text(parts),
        "first_provider": "" if first is None else first.provider or "",
        "first_model": "" if first is None else (first.runs or first.model or "")[:MAX_KEY_LENGTH],
    }
