"""What asks providers for their models: reading each kind's answer, and keeping it for a moment."""

from services.registry.providers.kept import KeptModelLists
from services.registry.providers.reader import ModelListReader

__all__ = ["KeptModelLists", "ModelListReader"]
