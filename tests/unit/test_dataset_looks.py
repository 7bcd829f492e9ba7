"""The same frame seen twice is known again; one in which something moved is another frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.dataset.looks import Looks, Objects, look, same_objects
from agent.errors import FrameError
from tests.fakes.stores import picture

CAR = ("car", (40, 60, 120, 110))


def seen(folder: Path, jpeg: bytes) -> bytes:
    path = folder / "picture.jpg"
    path.write_bytes(jpeg)
    return look(path)


def nothing(_: str) -> tuple[Objects, Objects]:
    return (), ()


@pytest.mark.parametrize(("quality", "scale"), [(60, 1.0), (95, 1.0), (80, 0.5), (70, 0.8)])
def test_another_quality_or_size_is_the_same_look(tmp_path: Path, quality: int, scale: float) -> None:
    looks = Looks()
    looks.add("first", seen(tmp_path, picture([CAR])))
    again = seen(tmp_path, picture([CAR], quality=quality, scale=scale))
    assert looks.like(again) == ["first"]
    assert looks.twin(again, "second", nothing) == "first"
    assert looks.twin(again, "first", nothing) is None


@pytest.mark.parametrize("moved", [(48, 60, 128, 110), (40, 60, 120, 118), (200, 10, 215, 25)])
def test_an_object_that_moved_or_came_is_another_look(tmp_path: Path, moved: tuple[int, int, int, int]) -> None:
    looks = Looks()
    looks.add("first", seen(tmp_path, picture([CAR])))
    other = [CAR, ("person", moved)] if moved[0] == 200 else [("car", moved)]
    assert looks.like(seen(tmp_path, picture(other))) == []


def test_of_several_the_closest_comes_first(tmp_path: Path) -> None:
    looks = Looks()
    exact = seen(tmp_path, picture([CAR]))
    looks.add("near", bytes(min(255, level + 3) for level in exact))
    looks.add("exact", exact)
    looks.add("far", bytes(min(255, level + 9) for level in exact))
    assert looks.like(exact) == ["exact", "near"]


def test_frames_that_look_alike_and_hold_other_objects_are_no_twins(tmp_path: Path) -> None:
    looks = Looks()
    view = seen(tmp_path, picture([]))
    looks.add("first", view)
    held: dict[str, Objects] = {"first": [("car", (0.1, 0.1, 0.2, 0.2))], "second": [("car", (0.5, 0.5, 0.6, 0.6))]}
    assert looks.twin(view, "second", lambda name: (held[name], held[name])) is None
    held["second"] = [("car", (0.1, 0.1, 0.2, 0.21))]
    assert looks.twin(view, "second", lambda name: (held[name], held[name])) == "first"


def test_what_one_model_serves_another_may_only_suspect() -> None:
    sure: Objects = [("car", (0.1, 0.1, 0.2, 0.2))]
    rows: Objects = [("bus", (0.1, 0.1, 0.2, 0.2)), ("car", (0.11, 0.1, 0.2, 0.2))]
    assert same_objects(sure, rows)
    assert not same_objects(sure, rows[:1])
    assert not same_objects(sure, ())
    assert same_objects((), rows)


def test_a_file_that_is_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(FrameError, match=r"text\.jpg cannot be read as a picture"):
        look(tmp_path / "text.jpg")
