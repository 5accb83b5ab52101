"""Files and folders are written whole or not at all."""

import os
from pathlib import Path

import pytest

from onnxc.compiler import files
from onnxc.compiler.diagnostics import CompileError


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_replaced(tmp_path):
    files.write_file(tmp_path / "deep" / "a", "one")
    files.write_file(tmp_path / "deep" / "a", b"two")
    assert (tmp_path / "deep" / "a").read_bytes() == b"two"
    assert entries(tmp_path / "deep") == ["a"]


@pytest.mark.parametrize("step", ["_flush", "os.replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    files.write_file(tmp_path / "a", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((files, "_flush") if step == "_flush" else (os, "replace")), full)
    with pytest.raises(CompileError, match="No space left") as caught:
        files.write_file(tmp_path / "a", "new")
    assert caught.value.code == "E0502"
    assert (tmp_path / "a").read_text() == "old"
    assert entries(tmp_path) == ["a"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_file(tmp_path / "a", "x")
        files.write_folder(tmp_path / "d", {"x": "y"})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("swap", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, swap):
    if not swap:
        monkeypatch.setattr(files, "_swapped", lambda made, path: False)
    files.write_folder(tmp_path / "out", {"a": "1", "sub/b": "2"})
    files.write_folder(tmp_path / "out", {"a": "3", "sub/c": "4"})
    assert entries(tmp_path / "out") == ["a", "sub"]
    assert entries(tmp_path / "out" / "sub") == ["c"]
    assert (tmp_path / "out" / "a").read_text() == "3"
    assert entries(tmp_path) == ["out"]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path):
    files.write_folder(tmp_path / "out", {"a": "old"})
    with pytest.raises(KeyboardInterrupt), files.folder(tmp_path / "out", {"a"}) as made:
        (made / "a").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert entries(tmp_path) == ["out"]


def test_a_failed_exchange_restores_the_old_folder(tmp_path, monkeypatch):
    files.write_folder(tmp_path / "out", {"a": "old"})
    monkeypatch.setattr(files, "_swapped", lambda made, path: False)
    rename = os.rename

    def failing(source, target):
        if Path(target) == tmp_path / "out" and Path(source).name != "old":
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(CompileError):
        files.write_folder(tmp_path / "out", {"a": "new"})
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert entries(tmp_path) == ["out"]


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(CompileError, match=r"thesis\.tex") as caught:
        files.write_folder(tmp_path / "home", {"a": "1"})
    assert caught.value.code == "E0502"
    assert entries(tmp_path / "home") == ["thesis.tex"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CompileError, match="not a folder"):
        files.write_folder(tmp_path / "out", {"a": "1"})
