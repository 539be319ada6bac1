"""Files are written atomically; names and paths work on every system."""

import errno
import json
import os

import pytest
import torch

from svllreid.errors import OutputError
from svllreid.files import atomic_write, file_name, file_stamp, is_file, is_folder, user_path, write_json


def test_renamed_when_done(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json(path, {"ä": 1})
    assert path.read_text(encoding="utf-8") == '{\n "ä": 1\n}\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left"),
        (OSError(errno.EDQUOT, "Quota"), "no space left"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 15 vs 14"), "no space left"),
    ],
)
def test_a_failed_write_keeps_the_old_file(tmp_path, error, words):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OutputError, match=words), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(RuntimeError, match="mine"), atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise RuntimeError("mine")
    assert not list(tmp_path.iterdir())


def test_torch_fails_on_a_full_device_as_expected(tmp_path):
    """What torch.save raises on a device without space is what is recognised."""
    with pytest.raises(OutputError, match="no space left"), atomic_write(tmp_path / "file"):
        torch.save({"x": torch.zeros(100_000)}, "/dev/full")


def test_names_that_every_system_takes():
    assert file_name("market1501+folder#2 größe") == "market1501+folder#2 größe"
    assert file_name('C:\\a/b|"x"?*<y>\n') == "C__a_b__x____y__"


def test_no_file_and_no_folder_of_impossible_names(tmp_path):
    (tmp_path / "a").touch()
    assert is_file(tmp_path / "a") and is_folder(tmp_path) and not is_file(tmp_path) and not is_folder(tmp_path / "a")
    for name in ("x" * 300, "\0"):
        assert not is_file(tmp_path / name) and not is_folder(tmp_path / name)


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    from svllreid.files import remove_leftovers

    own = tmp_path / f".model.pth.{os.getpid()}"
    for name in (own.name, ".model.pth.4194999", ".hidden", "model.pth.4194999"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {own.name, ".hidden", "model.pth.4194999"}
    remove_leftovers(tmp_path / "nowhere")


def test_a_stamp_tells_changed_files_and_takes_any_name(tmp_path):
    path = tmp_path / os.fsdecode(b"jos\xe9.jpg")
    missing = file_stamp(path)
    path.write_text("one")
    os.utime(path, ns=(1, 1))
    stamps = [file_stamp(path)]
    path.write_text("three")
    os.utime(path, ns=(1, 1))
    stamps.append(file_stamp(path))
    os.utime(path, ns=(2, 2))
    stamps += [file_stamp(path), file_stamp(path.rename(tmp_path / "other")), missing]
    assert len(set(stamps)) == 5


def test_names_that_are_no_text_are_spelled_out_and_come_back_from_json(tmp_path):
    name = os.fsdecode(b"jos\xe9")
    write_json(tmp_path / "a.json", {"name": name})
    assert r"jos\udce9" in (tmp_path / "a.json").read_text("utf-8")
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": name}


def test_home_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a"
    assert str(user_path("~nobody-is-called-so/a")) == "~nobody-is-called-so/a"
