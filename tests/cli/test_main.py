"""What every command does alike: it teaches, and it fails in sentences."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from typer.main import get_command
from typer.testing import Result

from catalog import keys
from cli.main import app

COMMANDS = ["up", "run", "stats", "logs"]
GROUPS = ["projects", "providers", "deployments", "keys"]


def leaves(command: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that does something."""
    found = getattr(command, "commands", None)
    if found is None:
        return [path]
    return [leaf for name, below in found.items() for leaf in leaves(below, (*path, name))]


def test_help_says_what_it_is_and_names_every_command(turnout: Callable[..., Result]) -> None:
    shown = turnout("--help")

    assert shown.exit_code == 0
    assert "turnout up" in shown.stdout
    for name in COMMANDS + GROUPS:
        assert name in shown.stdout


@pytest.mark.parametrize("path", leaves(get_command(app)), ids=" ".join)
def test_every_command_explains_itself_and_its_options(turnout: Callable[..., Result], path: tuple[str, ...]) -> None:
    shown = turnout(*path, "--help")

    assert shown.exit_code == 0
    assert shown.stdout.count(".") >= 1
    command = get_command(app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]  # a group: it has a command below
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name == "help", parameter.name


def test_without_an_address_a_sentence_says_how_to_give_one(turnout: Callable[..., Result]) -> None:
    for arguments in (["stats"], ["run", "agent"], ["projects", "list"], ["--project", "shop", "keys", "list"]):
        done = turnout(*arguments)

        assert done.exit_code == 1
        assert "turnout up" in done.stderr
        assert "TURNOUT_ADDRESS" in done.stderr
        assert done.stdout == ""


def test_without_a_project_a_sentence_says_how_to_give_one(turnout: Callable[..., Result]) -> None:
    done = turnout("--address", "127.0.0.1:1", "stats")

    assert done.exit_code == 1
    assert "TURNOUT_PROJECT" in done.stderr


def test_a_server_that_is_down_is_told(turnout: Callable[..., Result]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"

        done = turnout("--address", address, "--project", "shop", "--api-key", keys.new_key().text, "stats")

    assert done.exit_code == 1
    assert "UNAVAILABLE" in done.stderr
    assert address in done.stderr


@pytest.mark.slow
def test_a_key_that_is_wrong_malformed_or_missing_is_told(shop: Callable[..., Result]) -> None:
    for key, reason in ((keys.new_key().text, "KEY_UNKNOWN"), ("nonsense", "KEY_MALFORMED"), ("", "KEY_MISSING")):
        done = shop("stats", TURNOUT_API_KEY=key)

        assert done.exit_code == 1
        assert "UNAUTHENTICATED" in done.stderr
        assert reason in done.stderr
        assert not key or key not in done.stderr
