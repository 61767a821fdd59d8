"""What every contract must keep, whoever writes the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from catalog.keys import PLATFORM_SCOPES, PROJECT_SCOPES
from turnout.options.v1 import options_pb2

PROTOS = Path(__file__).resolve().parents[2] / "protos"
FileProto = descriptor_pb2.FileDescriptorProto


def _files() -> list[FileProto]:
    image = descriptor_pb2.FileDescriptorSet.FromString((PROTOS / "gen" / "image.binpb").read_bytes())
    return [file for file in image.file if file.name.startswith("turnout/")]


FILES = _files()


def _named_elements(file: FileProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path and name of everything that must be commented. Numbers are the fields of FileDescriptorProto and below."""
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        for j, method in enumerate(service.method):
            yield (6, i, 2, j), method.name
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        for j, value in enumerate(enum.value):
            yield (5, i, 2, j), value.name
    for i, message in enumerate(file.message_type):
        yield (4, i), message.name
        for j, field in enumerate(message.field):
            yield (4, i, 2, j), field.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_comment_begins_with_the_name_of_what_it_explains(file: FileProto) -> None:
    comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}

    wrong = [name for path, name in _named_elements(file) if not comments.get(path, "").startswith(f"{name} ")]

    assert not wrong, f"in {file.name}, a comment must begin with the name: {wrong}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_package_is_its_folder_and_ends_in_a_version(file: FileProto) -> None:
    assert file.package.replace(".", "/") == str(Path(file.name).parent)
    assert file.package.rpartition(".")[2].startswith("v")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_services_live_in_files_that_say_so(file: FileProto) -> None:
    assert bool(file.service) == file.name.endswith("_service.proto")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_rpc_says_who_may_call_it(file: FileProto) -> None:
    for service in file.service:
        for method in service.method:
            scope = method.options.Extensions[options_pb2.auth].scope
            assert scope in PROJECT_SCOPES | PLATFORM_SCOPES, f"{service.name}.{method.name} needs a known scope"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_requests_are_never_shared(file: FileProto) -> None:
    requests = [method.input_type for service in file.service for method in service.method]

    assert len(requests) == len(set(requests))
    for service in file.service:
        for method in service.method:
            assert method.input_type == f".{file.package}.{method.name}Request"


def test_verbatim_json_travels_as_text_and_never_as_a_struct() -> None:
    for file in FILES:
        for message in file.message_type:
            for field in message.field:
                assert "google.protobuf.Struct" not in field.type_name, "Struct corrupts integers and key order"
                if field.name.endswith("_json"):
                    assert field.type == field.TYPE_STRING
