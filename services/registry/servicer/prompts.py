"""Message templates that several variants share: RPC in, use case, RPC out."""

from __future__ import annotations

from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest
from services.registry.application.prompts import Prompts
from services.registry.convert import prompts
from services.registry.convert.text import write_from_proto
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import prompt_pb2, prompt_service_pb2_grpc
from turnout.registry.v1 import prompt_service_pb2 as pb


class PromptServicer(prompt_service_pb2_grpc.PromptServiceServicer):
    """The named message templates."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts

    async def CreatePrompt(self, request: pb.CreatePromptRequest, context: Context) -> prompt_pb2.Prompt:
        check_message(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        draft = prompts.prompt_draft(request.prompt_id, request.prompt)
        write = write_from_proto(request)
        return prompts.prompt_to_proto(announced(await self._prompts.create_prompt(caller(), project, draft, write)))

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Context) -> prompt_pb2.Prompt:
        name = prompts.numbered_name(request.name, field="name")
        return prompts.prompt_to_proto(await self._prompts.get_prompt(caller(), name))

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Context) -> pb.ListPromptsResponse:
        (project,) = parse(request.parent, PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._prompts.list_prompts(caller(), project, asked, with_archived=request.show_archived)
        return pb.ListPromptsResponse(prompts=map(prompts.prompt_to_proto, page.items), next_page_token=page.next_token)

    async def UpdatePrompt(self, request: pb.UpdatePromptRequest, context: Context) -> prompt_pb2.Prompt:
        check_message(request)
        name = prompts.prompt_name(request.prompt.name, field="prompt.name")
        change = prompts.prompt_change(request.prompt, request.update_mask.paths)
        written = await self._prompts.update_prompt(
            caller(), name, change, etag=request.prompt.etag, is_dry=request.validate_only
        )
        return prompts.prompt_to_proto(announced(written))

    async def ListPromptNumbers(
        self, request: pb.ListPromptNumbersRequest, context: Context
    ) -> pb.ListPromptNumbersResponse:
        name = prompts.prompt_name(request.parent, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._prompts.list_prompt_numbers(caller(), name, asked)
        return pb.ListPromptNumbersResponse(
            prompts=map(prompts.prompt_to_proto, page.items), next_page_token=page.next_token
        )

    async def ArchivePrompt(self, request: pb.ArchivePromptRequest, context: Context) -> prompt_pb2.Prompt:
        return await self._archived(request, archived=True)

    async def UnarchivePrompt(self, request: pb.UnarchivePromptRequest, context: Context) -> prompt_pb2.Prompt:
        return await self._archived(request, archived=False)

    async def _archived(
        self, request: pb.ArchivePromptRequest | pb.UnarchivePromptRequest, *, archived: bool
    ) -> prompt_pb2.Prompt:
        name = prompts.prompt_name(request.name, field="name")
        written = await self._prompts.archive_prompt(caller(), name, etag=request.etag, archived=archived)
        return prompts.prompt_to_proto(announced(written))

    async def RenderPrompt(self, request: pb.RenderPromptRequest, context: Context) -> pb.RenderPromptResponse:
        name = prompts.numbered_name(request.name, field="name")
        number, messages = await self._prompts.render_prompt(caller(), name, request.variables_json)
        return pb.RenderPromptResponse(messages=prompts.messages_to_proto(messages), number=number)
