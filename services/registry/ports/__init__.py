"""Everything that the registry needs from outside."""

from services.registry.ports.outside import Clock, Mint, MintedKey, ModelLists, NewUid, UrlCheck, Vault
from services.registry.ports.reading import Reading, Repeat, VersionKey, Write
from services.registry.ports.writing import Noting, Store, Writing

__all__ = [
    "Clock",
    "Mint",
    "MintedKey",
    "ModelLists",
    "NewUid",
    "Noting",
    "Reading",
    "Repeat",
    "Store",
    "UrlCheck",
    "Vault",
    "VersionKey",
    "Write",
    "Writing",
]
