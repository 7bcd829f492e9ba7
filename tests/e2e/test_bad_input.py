"""Wrong input: one line that names the thing and the remedy, the right exit status, and no traceback."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.conftest import Finished, Tailkeeper
from tests.fakes.models import a_model, end2end

OBEDIENT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Prefix under which root, too, obeys the permissions of files."""


def check_refused(done: Finished, status: int, *words: object) -> None:
    lines = [line for line in done.err.splitlines() if line.startswith("tailkeeper: ")]
    assert done.status == status, done.err
    assert "Traceback" not in done.err
    assert len(lines) == 1, done.err
    for word in words:
        assert str(word) in lines[0]


def wrong_model(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.onnx"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("this is no model")
        case "outputs":
            path.write_bytes(a_model(np.zeros((1, 1000), np.float32)))
        case "classes":
            path.write_bytes(a_model(end2end([[1, 1, 9, 9, 0.9, 7]])))
        case "task":
            path.write_bytes(a_model(end2end([]), task="segment"))
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "missing.onnx"),
        ("empty", "empty.onnx"),
        ("text", "text.onnx"),
        ("outputs", "[1,300,6]"),
        ("classes", "names 3"),
        ("task", "segment"),
    ],
)
def test_a_model_that_cannot_be_used(
    tailkeeper: Tailkeeper, pictures: Path, tmp_path: Path, kind: str, says: str
) -> None:
    model = wrong_model(tmp_path, kind)
    check_refused(tailkeeper("replay", pictures, "--model", model), 1, says)
    check_refused(tailkeeper("demo", "--source", pictures, "--model", model, "--out", tmp_path / "o"), 1, says)


def test_a_source_that_is_not_there(tailkeeper: Tailkeeper, model: Path, tmp_path: Path) -> None:
    done = tailkeeper("demo", "--source", tmp_path / "gone.mp4", "--model", model, "--out", tmp_path / "o")
    check_refused(done, 2, "gone.mp4", "give a file")


def test_a_video_that_is_none(tailkeeper: Tailkeeper, model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video" * 100)
    check_refused(tailkeeper("replay", tmp_path / "clip.mp4", "--model", model), 1, "clip.mp4")


def test_a_folder_without_pictures(tailkeeper: Tailkeeper, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_refused(tailkeeper("replay", tmp_path / "empty", "--model", model), 2, "holds no images")


def test_a_folder_in_which_no_picture_can_be_read(tailkeeper: Tailkeeper, model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    check_refused(tailkeeper("replay", tmp_path / "broken", "--model", model), 1, "broken")


def test_an_unknown_configuration_key(tailkeeper: Tailkeeper, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[selection]\nbugdet = 0.1\n")
    for command in (("run",), ("collect",), ("config", "check"), ("config", "show"), ("spool", "ls")):
        done = tailkeeper(*command, "--config", "agent.toml")
        check_refused(done, 2, "agent.toml: selection.bugdet: unknown key", "did you mean 'budget'?")


def test_a_service_without_what_it_needs(tailkeeper: Tailkeeper, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("[device]\nid = 'a'\n")
    check_refused(tailkeeper("run", "--config", "agent.toml"), 2, "broker.host: not set", "[broker]")
    check_refused(tailkeeper("collect", "--config", "agent.toml"), 2, "broker.host: not set")
    check_refused(tailkeeper("dataset", "ls", "--config", "agent.toml"), 2, "collector.store: not set")


def test_a_port_that_is_taken(tailkeeper: Tailkeeper, pictures: Path, model: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tailkeeper("demo", "--source", pictures, "--model", model, "--out", tmp_path / "o", "--port", port)
    check_refused(done, 2, f"port {port}", "name a free one with --port")


def test_an_output_folder_that_is_not_empty(tailkeeper: Tailkeeper, pictures: Path, model: Path) -> None:
    done = tailkeeper("demo", "--source", pictures, "--model", model, "--out", pictures)
    check_refused(done, 2, pictures, "not an empty folder")
    assert len(list(pictures.iterdir())) == 40


def test_a_folder_that_may_not_be_written(tailkeeper: Tailkeeper, pictures: Path, model: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    arguments = ("demo", "--source", pictures, "--model", model, "--out", locked / "o")
    check_refused(tailkeeper(*arguments, prefix=OBEDIENT), 2, locked / "o", "Permission denied", "--out")


def test_a_state_folder_that_may_not_be_written(tailkeeper: Tailkeeper, model: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    (tmp_path / "agent.toml").write_text(
        f'[device]\nstate_dir = "{locked}/state"\n[broker]\nhost = "127.0.0.1"\n[model]\npath = "{model}"\n'
        '[[cameras]]\nname = "a"\nsource = "pictures"\n'
    )
    done = tailkeeper("run", "--config", "agent.toml", prefix=OBEDIENT)
    check_refused(done, 2, "device.state_dir", locked, "Permission denied")


def test_policies_that_cannot_be_compared(tailkeeper: Tailkeeper, pictures: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[selection]\nbudget = 0.1\n")
    (tmp_path / "fast.toml").write_text('[[cameras]]\nname = "x"\nsource = "y"\nfps = 0\n')
    (tmp_path / "masked.toml").write_text('[[cameras]]\nname = "x"\nsource = "y"\nmasks = [[[0, 0], [1, 0], [1, 1]]]\n')
    command = ("replay", pictures, "--model", model, "--compare")
    check_refused(tailkeeper(*command, "a.toml", "gone.toml"), 2, "gone.toml")
    check_refused(tailkeeper(*command, "a.toml", "fast.toml"), 2, "a.toml and fast.toml differ", "fps", "--fps")
    check_refused(tailkeeper(*command, "a.toml", "masked.toml"), 2, "masks", "the same in both files")
    check_refused(tailkeeper(*command, "a.toml", "a.toml", "--config", "a.toml"), 2, "--config and --compare")
    check_refused(tailkeeper("replay", "rtsp://h/x", *command[2:], "a.toml", "a.toml"), 2, "live camera")
    assert tailkeeper(*command, "a.toml", "fast.toml", "--fps", "5").status == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("replay",),
        ("replay", "x", "--model", "m", "--budget", "2"),
        ("replay", "x", "--model", "m", "--budget", "nan"),
        ("replay", "x", "--model", "m", "--fps", "-1"),
        ("replay", "x", "--model", "m", "--compare", "a.toml"),
        ("demo", "--seconds", "soon"),
        ("config", "burn"),
    ],
)
def test_wrong_usage_exits_with_status_two(tailkeeper: Tailkeeper, arguments: tuple[str, ...]) -> None:
    done = tailkeeper(*arguments)
    assert done.status == 2
    assert "usage: tailkeeper" in done.err
    assert "Traceback" not in done.err


def test_replay_refuses_a_live_camera(tailkeeper: Tailkeeper, model: Path) -> None:
    check_refused(tailkeeper("replay", "rtsp://127.0.0.1/x", "--model", model), 2, "live camera", "folder of images")
