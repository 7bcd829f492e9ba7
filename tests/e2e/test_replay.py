"""A policy tried on a recording picks what the service would pick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest

from agent.spool import listing, read_item
from agent.world import World
from tests.e2e.conftest import Tailkeeper
from tests.e2e.test_service import eventually, service
from tests.fakes.mosquitto import free_port

FRAMES = 240
MODEL = Path(__file__).parents[2] / "agent" / "world" / "model"
POLICY = "[selection]\nbudget = 0.1\nwindow_frames = 50\nseed = 7\n"
UNLIMITED = "frames_per_day = 0\nbytes_per_day = 0\nlabels_per_day = 0\n"


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording: frames of the rendered street, three a media second."""
    folder = tmp_path_factory.mktemp("street")
    world = World("street?seed=5")
    for i in range(FRAMES):
        cv2.imwrite(str(folder / f"{i:04}.jpg"), world.render(i * 3))
    return folder


def replayed(tailkeeper: Tailkeeper, street: Path, *arguments: object) -> dict[str, Any]:
    done = tailkeeper("replay", street, "--model", MODEL, "--json", *arguments)
    assert done.status == 0, done.err
    document: dict[str, Any] = done.json
    return document


def test_run_and_replay_pick_the_same_frames(tailkeeper: Tailkeeper, street: Path, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(
        f'[device]\nid = "pole"\nstate_dir = "{tmp_path}/state"\n[broker]\nhost = "127.0.0.1"\nport = {free_port()}\n'
        f'tls = false\n[[cameras]]\nname = "gate"\nsource = "{street}"\nfps = 0\n[model]\npath = "{MODEL}"\n'
        f"{POLICY}{UNLIMITED}"
    )
    wanted = replayed(tailkeeper, street, "--budget", "0.1", "--seed", "7", "--fps", "0", "--config", "agent.toml")
    spool = tmp_path / "state" / "spool"
    with service(tmp_path, "run"):
        eventually(lambda: len(list(listing(spool))) >= len(wanted["selected"]), "not all frames were picked")
    kept = sorted((read_item(spool, entry.cid).meta for entry in listing(spool)), key=lambda meta: meta.ts_ns)
    assert wanted["frames"] == FRAMES
    assert [(meta.lane, round(meta.score, 6), meta.probability) for meta in kept] == [
        (row["lane"], row["score"], row["probability"])
        for row in sorted(wanted["selected"], key=lambda row: int(row["index"]))
    ]


def test_the_same_seed_gives_the_same_picks_under_any_camera_name(
    tailkeeper: Tailkeeper, street: Path, tmp_path: Path
) -> None:
    (tmp_path / "agent.toml").write_text(f'{POLICY}{UNLIMITED}[[cameras]]\nname = "north"\nsource = "elsewhere"\n')
    plain = replayed(tailkeeper, street, "--budget", "0.1", "--seed", "7")
    named = replayed(tailkeeper, street, "--config", "agent.toml")
    other = replayed(tailkeeper, street, "--budget", "0.1", "--seed", "8")
    assert {row["camera"] for row in named["selected"]} == {"north"}
    draws = [
        [row["index"] for row in document["selected"] if row["lane"] == "canary"] for document in (plain, named, other)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_the_budget_is_a_ceiling(tailkeeper: Tailkeeper, street: Path) -> None:
    for budget in (0.02, 0.05, 0.2):
        document = replayed(tailkeeper, street, "--budget", budget, "--seed", "3")
        assert len(document["selected"]) <= budget * FRAMES + 1
        assert document["lanes"] == {
            lane: sum(row["lane"] == lane for row in document["selected"]) for lane in document["lanes"]
        }


def test_budget_one_keeps_every_frame(tailkeeper: Tailkeeper, street: Path) -> None:
    document = replayed(tailkeeper, street, "--budget", "1", "--seed", "3")
    assert [row["index"] for row in document["selected"]] == list(range(FRAMES))
    assert {row["probability"] for row in document["selected"]} == {1.0}


def policy(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f"{POLICY}{UNLIMITED}{text}")
    return path


def test_two_policies_side_by_side_pick_what_each_picks_alone(
    tailkeeper: Tailkeeper, street: Path, tmp_path: Path
) -> None:
    rare = "[selection.shares]\nrare = 0.9\ncanary = 0.1\n[model]\nserve_threshold = 0.4\nselect_floor = 0.1\n"
    files = policy(tmp_path, "plain", ""), policy(tmp_path, "rare", rare)
    done = tailkeeper("replay", street, "--model", MODEL, "--json", "--compare", *files)
    assert done.status == 0, done.err
    for key, file in zip("ab", files, strict=True):
        alone = replayed(tailkeeper, street, "--config", file)
        together = done.json[key]
        assert together.pop("config") == str(file)
        assert together | {"ms_per_frame": 0} == alone | {"ms_per_frame": 0}
    a, b = ({row["index"] for row in done.json[key]["selected"]} for key in "ab")
    assert {row["index"] for row in done.json["only_a"]} == a - b != set()
    assert {row["index"] for row in done.json["only_b"]} == b - a != set()
    assert done.json["both"] == len(a & b)


def test_the_comparison_as_a_table(tailkeeper: Tailkeeper, street: Path, tmp_path: Path) -> None:
    files = policy(tmp_path, "plain", ""), policy(tmp_path, "half", "[image]\nquality = 20\n")
    done = tailkeeper("replay", street, "--model", MODEL, "--compare", *files)
    table = {line[:15].strip(): line[15:].split() for line in done.out.splitlines()[:8]}
    assert table["selected"][0] == table["selected"][1]
    coarse, fine = (int(text.replace(",", "")) for text in reversed(table["bytes, encoded"]))
    assert 0 < coarse < fine
    assert table["only here"] == ["0", "0"]


def test_policies_that_leave_chance_open_share_it(tailkeeper: Tailkeeper, street: Path, tmp_path: Path) -> None:
    (tmp_path / "open.toml").write_text(f"[selection]\nbudget = 0.2\n{UNLIMITED}")
    done = tailkeeper("replay", street, "--model", MODEL, "--json", "--compare", "open.toml", "open.toml")
    assert done.json["a"]["selected"] == done.json["b"]["selected"]
    assert (done.json["only_a"], done.json["only_b"]) == ([], [])
