"""Versions of completion configurations."""

from __future__ import annotations

from datetime import datetime

from catalog import configurations
from completions.version import Version as Content
from services.registry.domain import Version
from turnout.registry.v1 import version_pb2 as pb


def version_to_proto(version: Version, expires_at: datetime | None = None) -> pb.Version:
    """As callers see it."""
    proto = _identified(configurations.version_to_proto(version.content), version)
    if expires_at is not None:
        proto.expire_time.FromDatetime(expires_at)
    return proto


def catalog_version(version: Version) -> pb.Version:
    """As other services see it: the provider by uid, which never needs a look-up by project."""
    return _identified(configurations.version_to_proto(version.content, provider=version.provider), version)


def _identified(proto: pb.Version, version: Version) -> pb.Version:
    proto.name, proto.uid = version.name, version.uid
    proto.create_time.FromDatetime(version.created_at)
    return proto


def pack_content(content: Content) -> bytes:
    """As the store keeps it."""
    return configurations.version_to_proto(content).SerializeToString(deterministic=True)


def unpack_content(packed: bytes) -> Content:
    """The inverse of :func:`pack_content`."""
    return configurations.version_from_packed(packed)


def model_of_content(packed: bytes) -> str:
    """The provider's name for the model, of what :func:`pack_content` made."""
    return pb.Version.FromString(packed).model
