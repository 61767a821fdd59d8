"""Which model a version runs, as a column; and what deployments from before 0004 are found and sorted by."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Connection, text

from services.registry.convert.execution import fallback_names
from services.registry.convert.versions import model_of_content
from services.registry.domain import MAX_KEY_LENGTH, searchable_text

revision = "0006"
down_revision = "0005"

_VERSIONS_AT_ONCE = 20
"""Each holds up to 2 MiB."""
_DEPLOYMENTS_AT_ONCE = 200

_VERSIONS = text("""
    SELECT project, uid, content FROM versions
    WHERE (project, uid) > (:project, :uid) ORDER BY project, uid LIMIT :limit""")
_DEPLOYMENTS = text("""
    SELECT uid, slug, display_name, description FROM deployments
    WHERE uid > :uid AND first_provider = '' AND first_model = '' ORDER BY uid LIMIT :limit""")
_VARIANTS = text("""
    SELECT alias.deployment, alias.alias, variant.revision, variant.active, variant.display_name, variant.execution,
        provider.slug AS provider, version.model AS runs, prompt.slug AS prompt, model.display_name AS model,
        model.algorithm
    FROM aliases AS alias
    JOIN revision_variants AS variant ON variant.revision = alias.revision
    LEFT JOIN versions AS version ON version.project = variant.project AND version.uid = variant.version
    LEFT JOIN providers AS provider ON provider.uid = version.provider
    LEFT JOIN prompts AS prompt ON prompt.uid = variant.prompt
    LEFT JOIN models AS model ON model.project = variant.project AND model.uid = variant.model
    WHERE alias.deployment = ANY(:uids)
    ORDER BY alias.deployment, alias.alias <> 'live', variant.revision, variant.position""")
_FOUND_BY = text("""
    UPDATE deployments SET search_text = :search_text, first_provider = :first_provider, first_model = :first_model
    WHERE uid = :uid""")


def upgrade() -> None:
    """From 0005."""
    connection = op.get_bind()
    op.execute("ALTER TABLE versions ADD model text")
    _fill_models(connection)
    op.execute("ALTER TABLE versions ALTER model SET NOT NULL")
    _fill_deployments(connection)


def _fill_models(connection: Connection) -> None:
    project = uid = ""
    while True:
        asked = {"project": project, "uid": uid, "limit": _VERSIONS_AT_ONCE}
        found = connection.execute(_VERSIONS, asked).all()
        if not found:
            return
        connection.execute(
            text("UPDATE versions SET model = :model WHERE project = :project AND uid = :uid"),
            [{"project": row.project, "uid": row.uid, "model": model_of_content(row.content)} for row in found],
        )
        project, uid = found[-1].project, found[-1].uid


def _fill_deployments(connection: Connection) -> None:
    uid = ""
    while True:
        found = connection.execute(_DEPLOYMENTS, {"uid": uid, "limit": _DEPLOYMENTS_AT_ONCE}).all()
        if not found:
            return
        uid = found[-1].uid
        parts = {row.uid: [row.slug, row.display_name, row.description] for row in found}
        firsts = dict.fromkeys(parts, ("", ""))
        for row in connection.execute(_VARIANTS, {"uids": list(parts)}):
            texts = (row.display_name, row.provider, row.runs, row.prompt, row.model, row.algorithm)
            parts[row.deployment] += [each for each in texts if each]
            parts[row.deployment] += [name for names in fallback_names(row.execution or b"") for name in names]
            if row.alias == "live" and row.active and not any(firsts[row.deployment]):
                firsts[row.deployment] = (row.provider or "", (row.runs or row.model or "")[:MAX_KEY_LENGTH])
        connection.execute(
            _FOUND_BY,
            [
                {
                    "uid": each,
                    "search_text": searchable_text(words),
                    "first_provider": firsts[each][0],
                    "first_model": firsts[each][1],
                }
                for each, words in parts.items()
            ],
        )
