"""Use cases of trained models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kit.paging import Page
from services.registry.application.access import (
    MAX_ANSWER_BYTES,
    ListRequest,
    Written,
    bounded_page,
    cursor_of,
    find_project,
    requested_page,
)
from services.registry.application.archives import check_unused
from services.registry.domain import Caller, Model, ModelFacts, Record, key_name, missing, violated
from services.registry.ports import Clock, NewUid, Reading, Store


@dataclass(frozen=True, slots=True)
class Models:
    """The trained recommenders."""

    store: Store
    now: Clock
    new_uid: NewUid

    async def register_model(
        self, caller: Caller, project_segment: str, facts: ModelFacts, *, on_behalf_of: str
    ) -> Written[Model]:
        """Idempotent by digest within the project.

        :raises Invalid: `API_KEY_NOT_FOUND` if `on_behalf_of` is nobody's key
        """
        async with self.store.writing() as tx:
            project = await find_project(tx, caller, project_segment)
            found = await tx.model_of(project, facts.digest)
            if found is not None:
                return Written(found, found.record.changed_in)
            key = await tx.any_api_key(on_behalf_of)
            if key is None:
                raise violated("API_KEY_NOT_FOUND", "on_behalf_of", "is not the id of an API key")
            now, number = self.now(), await tx.next_number("model")
            model = Model(
                uid=self.new_uid("mod"),
                project=project,
                number=number,
                facts=replace(facts, display_name=facts.display_name or f"Model {number}"),
                creator=key_name(key.project, key.uid),
                record=Record(now, now, tx.sequence, tx.sequence),
            )
            await tx.add_model(model)
            await tx.announce([])
        return Written(model, tx.sequence)

    async def get_model(self, caller: Caller, project_segment: str, segment: str) -> Model:
        """:raises NotFound: `MODEL_NOT_FOUND`"""
        async with self.store.reading() as tx:
            return await _find(tx, caller, project_segment, segment)

    async def archive_model(
        self, caller: Caller, project_segment: str, segment: str, *, archived: bool
    ) -> Written[Model]:
        """Take it out of use, or bring it back. The catalog has models while they are in use, so it tells of neither.

        :raises NotFound: `MODEL_NOT_FOUND`
        :raises Precondition: `MODEL_IN_USE`
        """
        async with self.store.writing() as tx:
            found = await _find(tx, caller, project_segment, segment)
            if (found.archived_at is not None) is archived:
                return Written(found, found.record.changed_in)
            if archived:
                await check_unused(tx, found.project, found)
            now = self.now()
            record = replace(found.record, updated_at=now, changed_in=tx.sequence)
            changed = replace(found, archived_at=now if archived else None, record=record)
            await tx.replace_model(changed)
            await tx.announce([])
        return Written(changed, tx.sequence)

    async def list_models(
        self, caller: Caller, project_segment: str, request: ListRequest, *, with_archived: bool = False
    ) -> Page[Model]:
        """A project's, oldest first."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            subject = f"models of {project.uid}{' and archived ones' if with_archived else ''}"
            asked = requested_page(request, subject)
            found, has_more = await tx.models(project, asked, with_archived=with_archived, max_bytes=MAX_ANSWER_BYTES)
        return bounded_page(found, cursor_of(found[-1]) if has_more else (), subject, has_more=has_more)


async def _find(tx: Reading, caller: Caller, project_segment: str, segment: str) -> Model:
    project = await find_project(tx, caller, project_segment)
    found = await tx.model(project, segment)
    if found is None:
        raise missing("model", f"projects/{project_segment}/models/{segment}")
    return found
