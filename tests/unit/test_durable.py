"""Durable writes and small versioned state."""

from __future__ import annotations

import ctypes
import errno
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

    def spy_rename(old: str, new: Path) -> None:
        steps.append(f"rename {Path(old).name} {new.name}")
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


def test_a_new_file_is_on_the_disk_before_it_has_its_name_and_both_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def named(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def spy_rename(old: str, new: Path) -> None:
        steps.append("rename")
        rename(old, new)

    rename = os.rename
    monkeypatch.setattr(durable, "_send_to_disk", lambda descriptor: steps.append("write out " + named(descriptor)))
    monkeypatch.setattr(os, "fsync", lambda descriptor: steps.append("sync " + named(descriptor)))
    monkeypatch.setattr(os, "rename", spy_rename)
    durable.write_new(tmp_path / "a", b"content")
    assert steps == ["write out a.part", "rename", "sync a", f"sync {tmp_path.name}"]
    assert (tmp_path / "a").read_bytes() == b"content"


@pytest.mark.parametrize("step", ["_send_to_disk", "os.fsync"])
def test_a_new_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(f"agent.durable.{step}", broken)
    with pytest.raises(OSError, match="Input/output error"):
        durable.write_new(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refusal", ["missing", "not permitted"])
def test_a_new_file_is_synced_before_its_name_where_the_system_offers_no_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def not_permitted(*_: object) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    monkeypatch.setattr(durable, "_sync_file_range", None if refusal == "missing" else not_permitted)
    monkeypatch.setattr(os, "fsync", spy)
    durable.write_new(tmp_path / "a", b"content")
    assert synced == ["a.part", "a", tmp_path.name]


def test_many_files_are_on_the_disk_before_they_have_their_names_and_the_whole_is_synced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    rename, send = os.rename, durable._send_to_disk

    def spy_send(descriptor: int) -> None:
        steps.append("write out")
        send(descriptor)

    def spy_rename(old: str, new: Path) -> None:
        steps.append("rename")
        rename(old, new)

    class SpyLibc:
        statfs = durable._libc.statfs

        @staticmethod
        def syncfs(_: int) -> int:
            steps.append("sync")
            return 0

    monkeypatch.setattr(durable, "_SYNCED_AS_ONE", AnyType())
    monkeypatch.setattr(durable, "_libc", SpyLibc)
    monkeypatch.setattr(durable, "_send_to_disk", spy_send)
    monkeypatch.setattr(os, "rename", spy_rename)
    durable.write_all([(tmp_path / "a", b"one"), (tmp_path / "b", b"two")])
    assert steps == ["write out", "write out", "rename", "rename", "sync"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"one", "b": b"two"}


class AnyType:
    """Every file system is one of the known ones."""

    def __contains__(self, _: object) -> bool:
        return True


def test_many_files_are_written_one_by_one_where_syncing_the_whole_is_not_known_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(durable, "_SYNCED_AS_ONE", frozenset())
    monkeypatch.setattr(os, "fsync", spy)
    durable.write_all([(tmp_path / "a", b"one"), (tmp_path / "b", b"two")])
    assert sorted(synced) == sorted(["a.part", "b.part", tmp_path.name, tmp_path.name])
    assert (tmp_path / "b").read_bytes() == b"two"


@pytest.mark.parametrize("step", ["_send_to_disk", "os.rename"])
def test_when_one_of_many_files_fails_no_temporary_stays_and_what_was_there_before_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (tmp_path / "a").write_bytes(b"before")

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "_SYNCED_AS_ONE", AnyType())
    monkeypatch.setattr(f"agent.durable.{step}", broken)
    with pytest.raises(OSError, match="Input/output error"):
        durable.write_all([(tmp_path / "a", b"after"), (tmp_path / "b", b"two")])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def test_a_sync_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenLibc:
        statfs = durable._libc.statfs

        @staticmethod
        def syncfs(_: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    monkeypatch.setattr(durable, "_SYNCED_AS_ONE", AnyType())
    monkeypatch.setattr(durable, "_libc", BrokenLibc)
    with pytest.raises(OSError, match="Input/output error"):
        durable.write_all([(tmp_path / "a", b"one")])


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
