"""Settings: read once from the environment, frozen, each with its unit in its name.

A class of settings belongs to one room and names its prefix. A bad value stops the start with a sentence that names the
variable; `--print-config` shows what is in force, with secrets hidden.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from kit.errors import CannotStart


class Settings(BaseSettings):
    """One room's settings. Subclass with `model_config = settings_config("TURNOUT_REGISTRY_")`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, env_prefix="TURNOUT_")


class BadConfig(CannotStart):
    """Settings that cannot be used. The text is for the operator and holds no secret."""


S = TypeVar("S", bound=Settings)


def settings_config(prefix: str) -> SettingsConfigDict:
    """How a room reads its settings: from variables that start with `prefix` only; an empty one is as good as unset."""
    return SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, env_prefix=prefix)


def load(settings: type[S]) -> S:
    """Read one room's settings from the environment.

    :raises BadConfig: naming every variable that is missing or wrong, never its value
    """
    try:
        return settings()
    except SettingsError as error:
        # Raised for lists and the like that are no JSON, before validation; its own text names the field only.
        field = str(error).partition('"')[2].partition('"')[0]
        raise BadConfig(f"bad settings:\n  {_variable(settings, field)}: is not valid JSON") from None
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = _variable(settings, str(problem["loc"][0])) if problem["loc"] else settings.__name__
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {'is not set' if problem['type'] == 'missing' else message}")
        raise BadConfig("bad settings:\n  " + "\n  ".join(sorted(lines))) from None


def describe(loaded: Iterable[Settings]) -> dict[str, str]:
    """What is in force, by variable, secrets as `<secret>`; for `--print-config`."""
    shown: dict[str, str] = {}
    for settings in loaded:
        for field in type(settings).model_fields:
            value = getattr(settings, field)
            hidden = isinstance(value, SecretStr) and value.get_secret_value()
            shown[_variable(type(settings), field)] = "<secret>" if hidden else _shown(value)
    return dict(sorted(shown.items()))


def variables(settings: type[Settings]) -> list[str]:
    """Every variable that a room reads, for the test that its README lists them."""
    return sorted(_variable(settings, field) for field in settings.model_fields)


def unknown_variables(known: Iterable[type[Settings]], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that look like ours but that nobody reads: most likely typing errors."""
    names = {name for settings in known for name in variables(settings)}
    return sorted(name for name in environment if name.startswith("TURNOUT_") and name not in names)


def _variable(settings: type[Settings], field: str) -> str:
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def _shown(value: object) -> str:
    if value is None or (isinstance(value, SecretStr) and not value.get_secret_value()):
        return ""
    return json.dumps(value) if isinstance(value, (tuple, list, dict)) else str(value)
