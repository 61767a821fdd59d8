from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from kit.errors import Precondition
from stack import placement


@pytest.fixture
def nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


@pytest.fixture
def origin(open_folder: Path) -> Path:
    folder = open_folder / "stack"
    folder.mkdir()
    return folder


@pytest.fixture
def temporary(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of this test's own."""
    folder = open_folder / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.usefixtures("as_root")
def test_whether_a_folder_is_closed_agrees_with_the_kernel_for_every_mode_and_owner(
    open_folder: Path, nobody: pwd.struct_passwd
) -> None:
    owners = {"root": (0, 0), "owner": (nobody.pw_uid, 0), "group": (0, nobody.pw_gid), "both": nobody[2:4]}
    for name, (uid, gid) in owners.items():
        for mode in range(0o1000):
            folder = open_folder / f"{name}-{mode:03o}"
            folder.mkdir()
            os.chown(folder, uid, gid)
            folder.chmod(mode)
    find = ["find", str(open_folder), "-mindepth", "1", "-maxdepth", "1", "-executable", "-printf", "%f\n"]
    truth = subprocess.run(
        find, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], stdout=subprocess.PIPE, text=True, check=True
    )

    computed = {path.name for path in open_folder.iterdir() if placement.closed_folder(path, nobody) is None}

    assert computed == set(truth.stdout.split())
    assert 0 < len(computed) < 4 * 0o1000


@pytest.mark.usefixtures("as_root")
def test_the_outermost_closed_folder_on_the_way_is_named_also_behind_a_link(
    open_folder: Path, nobody: pwd.struct_passwd
) -> None:
    (open_folder / "closed" / "inner").mkdir(parents=True)
    (open_folder / "closed").chmod(0o700)
    (open_folder / "link").symlink_to(open_folder / "closed" / "inner")

    assert placement.closed_folder(open_folder / "link", nobody) == open_folder / "closed"
    assert placement.closed_folder(open_folder / "link", None) is None


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(("path", "mode"), [("", 0o700), ("bin", 0o711), ("bin/run", 0o744), ("bin/text", 0o600)])
def test_a_tree_with_one_closed_part_is_not_open_and_its_copy_is(
    open_folder: Path, nobody: pwd.struct_passwd, path: str, mode: int
) -> None:
    tree = open_folder / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "run").write_text("#!/bin/sh\n")
    (tree / "bin" / "run").chmod(0o755)
    (tree / "bin" / "text").write_text("text")
    assert placement.is_open_tree(tree, nobody)

    (tree / path).chmod(mode)
    placement.mirror(tree, open_folder / "copy")

    assert not placement.is_open_tree(tree, nobody)
    assert placement.is_open_tree(tree, None)
    assert placement.is_open_tree(open_folder / "copy", nobody)
    assert (open_folder / "copy" / "bin" / "run").read_text() == "#!/bin/sh\n"


def test_a_copy_is_repaired_where_a_cleaner_took_or_cut_a_file(open_folder: Path) -> None:
    tree, copy = open_folder / "tree", open_folder / "copy"
    (tree / "lib" / "include").mkdir(parents=True)
    for name in ("one", "two", "three", "include/header"):
        (tree / "lib" / name).write_text(name)
    placement.mirror(tree, copy)
    untouched = (copy / "lib" / "one").stat().st_ino
    (copy / "lib" / "two").unlink()
    (copy / "lib" / "three").write_text("th")

    placement.mirror(tree, copy)

    assert {path.name: path.read_text() for path in (copy / "lib").iterdir()} == {n: n for n in ("one", "two", "three")}
    assert (copy / "lib" / "one").stat().st_ino == untouched


@pytest.mark.usefixtures("as_root", "temporary")
def test_a_private_folder_belongs_to_its_user_alone(origin: Path, nobody: pwd.struct_passwd) -> None:
    folder = placement.private_folder(origin, nobody)

    assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (nobody.pw_uid, 0o700)
    assert placement.closed_folder(folder, nobody) is None
    assert placement.private_folder(origin, nobody) == folder
    assert (origin / placement.RECORD).read_text() == str(folder)


@pytest.mark.usefixtures("temporary")
def test_a_private_folder_that_was_cleaned_away_is_replaced(origin: Path) -> None:
    first = placement.private_folder(origin, None)
    shutil.rmtree(first)

    second = placement.private_folder(origin, None)

    assert second != first
    assert second.is_dir()


@pytest.mark.usefixtures("temporary")
def test_a_copied_stack_folder_gets_a_private_folder_of_its_own(origin: Path) -> None:
    first = placement.private_folder(origin, None)
    copied = origin.with_name("copied")
    shutil.copytree(origin, copied)

    assert placement.private_folder(copied, None) != first
    assert first.is_dir()


@pytest.mark.usefixtures("temporary")
def test_a_private_folder_whose_origin_is_gone_is_removed_with_the_next(origin: Path) -> None:
    orphan = placement.private_folder(origin, None)
    (orphan / "data").mkdir()
    shutil.rmtree(origin)
    (other := origin.with_name("other")).mkdir()

    kept = placement.private_folder(other, None)

    assert sorted(path.name for path in kept.parent.iterdir()) == sorted([kept.name, f"{kept.name}.origin", "lock"])


@pytest.mark.usefixtures("temporary")
def test_removing_a_private_folder_leaves_nothing(origin: Path) -> None:
    folder = placement.private_folder(origin, None)
    placement.remove_private_folder(origin)
    placement.remove_private_folder(origin)  # again: nothing happens

    assert [path.name for path in folder.parent.iterdir()] == ["lock"]
    assert list(origin.iterdir()) == []


@pytest.mark.usefixtures("temporary")
def test_a_note_never_leads_to_the_removal_of_a_folder_that_is_not_ours(origin: Path, open_folder: Path) -> None:
    (precious := open_folder / "precious").mkdir()
    (origin / placement.RECORD).write_text(str(precious))

    placement.remove_private_folder(origin)

    assert precious.is_dir()


@pytest.mark.parametrize("trap", ["writable", "link", "file"])
def test_a_private_root_that_others_could_have_prepared_is_refused(temporary: Path, origin: Path, trap: str) -> None:
    root = temporary / f"turnout-{os.geteuid()}"
    if trap == "writable":
        root.mkdir()
        root.chmod(0o777)
    elif trap == "link":
        root.symlink_to(origin)
    else:
        root.write_text("")

    with pytest.raises(Precondition) as failure:
        placement.private_folder(origin, None)

    assert failure.value.reason == "TEMPORARY_FOLDER_FOREIGN"


@pytest.mark.usefixtures("as_root")
def test_a_private_root_of_another_user_is_refused(temporary: Path, origin: Path, nobody: pwd.struct_passwd) -> None:
    (root := temporary / "turnout-0").mkdir()
    os.chown(root, nobody.pw_uid, nobody.pw_gid)

    with pytest.raises(Precondition) as failure:
        placement.private_folder(origin, nobody)

    assert failure.value.reason == "TEMPORARY_FOLDER_FOREIGN"


@pytest.mark.usefixtures("as_root")
def test_a_closed_temporary_folder_is_a_clear_error(temporary: Path, origin: Path, nobody: pwd.struct_passwd) -> None:
    temporary.chmod(0o700)

    with pytest.raises(Precondition, match="TMPDIR") as failure:
        placement.private_folder(origin, nobody)

    assert failure.value.reason == "TEMPORARY_FOLDER_CLOSED"


@pytest.mark.usefixtures("as_root")
def test_giving_a_folder_does_not_follow_a_link(open_folder: Path, nobody: pwd.struct_passwd) -> None:
    (target := open_folder / "target").mkdir()
    (open_folder / "link").symlink_to(target)

    placement.give(open_folder / "link", nobody)

    assert target.stat().st_uid == 0
