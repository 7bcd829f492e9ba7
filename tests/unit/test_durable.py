"""Durable writes and small versioned state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import durable


def test_a_file_is_synced_before_its_name_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(descriptor: int) -> None:
        steps.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def spy_rename(old: Path, new: Path) -> None:
        steps.append(f"rename {old.name} {new.name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    durable.write(tmp_path / "a", b"content")
    assert steps == ["sync a.part", "rename a.part a", f"sync {tmp_path.name}"]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_failed_write_leaves_the_old_content_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.write(tmp_path / "a", b"old")

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        durable.write(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_folders_are_made_with_their_parents_and_may_be_there_already(tmp_path: Path) -> None:
    for _ in range(2):
        durable.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_state_comes_back_only_in_its_own_version(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert durable.load_state(path, 1) is None
    durable.save_state(path, 1, {"spent": 3})
    assert durable.load_state(path, 1) == {"v": 1, "spent": 3}
    assert durable.load_state(path, 2) is None
    assert (tmp_path / "state.json.bad").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"v": 1, "spent"'])
def test_damaged_state_is_set_aside_and_not_trusted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    assert durable.load_state(path, 1) is None
    assert (tmp_path / "state.json.bad").read_bytes() == content
