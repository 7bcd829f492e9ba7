"""The whole agent under an operator's hands: nothing it does for the fleet costs a recorded frame."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.clock import SystemClock
from agent.fleet import Link, Target, put, send
from agent.fleet.blocks import BlockServer
from agent.fleet.command import order
from agent.models import keygen
from agent.service import Device
from agent.settings import load
from agent.spool import listing, read_item
from agent.wire import CommandState
from tests.fakes.bundles import ROWS, a_bundle, an_update
from tests.fakes.models import a_model, end2end
from tests.fakes.mosquitto import Mosquitto
from tests.integration.delivery import broker_settings, wait_until
from tests.integration.fleet import operator

GATE = "gate-north"
FRAMES = 300
WAIT_S = 60.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for number in range(FRAMES):
        cv2.imwrite(str(folder / f"{number:03}.jpg"), rng.integers(40, 200, (48, 64, 3), dtype=np.uint8))
    return folder


class Site:
    """A device that keeps every frame of a recording, its operator, and a key that it trusts."""

    def __init__(self, folder: Path, pictures: Path, port: int) -> None:
        self.folder = folder
        self.trusted = keygen(folder / "key.pem")
        self.configured = a_bundle(folder / "configured", counter=1, model_id="old")
        values: dict[str, Any] = {
            "device": {"id": GATE, "state_dir": str(folder / "state")},
            "broker": broker_settings(port).model_dump(),
            "cameras": {"gate": {"name": "gate", "source": str(pictures), "fps": 25.0}},
            "model": {"path": str(self.configured), "trusted_keys": [self.trusted], "trial_s": 1.0, "threads": 1},
            "selection": {"budget": 1.0, "window_frames": 10, "shares": {"canary": 1.0}, "seed": 1,
                          "frames_per_day": 0, "bytes_per_day": 0, "labels_per_day": 0},
            "uplink": {"paused": True},
            "control": {"config_trial_s": 0.5},
        }  # fmt: skip
        self.device = Device(load(Path("/dev/null"), command_line=values, environ={}), _Synced())
        self.link = operator(broker_settings(port))

    def bundle(self, counter: int, **facts: Any) -> Path:
        return a_bundle(
            self.folder / f"bundle-{counter}", counter=counter, model_id="new", key=self.folder / "key.pem", **facts
        )

    def wait_online(self) -> None:
        assert self.link.wait(lambda: self.link.device(GATE).config is not None, WAIT_S)

    def ask(self, op: str, **args: Any) -> CommandState:
        state = send(self.link, GATE, order(self.link, op, args, by="test"), wait_s=WAIT_S)
        assert state, f"no end of {op}"
        return state

    def kept(self) -> list[tuple[int, str]]:
        """(time of capture, model) of every frame in the spool, in the order of the recording."""
        folder = self.folder / "state/spool"
        metas = [read_item(folder, entry.cid).meta for entry in listing(folder)]
        return sorted((meta.ts_ns, meta.model.id) for meta in metas)


class _Synced(SystemClock):
    def synced(self) -> bool:
        return True


@pytest.fixture
def site(tmp_path: Path, pictures: Path, mosquitto: Mosquitto) -> Site:
    return Site(tmp_path, pictures, mosquitto.port)


def test_a_configuration_goes_live_without_losing_a_frame(site: Site) -> None:
    with site.link, site.device.running():
        site.wait_online()
        for budget in (0.9, 0.8, 1.0):
            wanted = put(site.link, Target.parse(GATE), {"selection": {"budget": budget}, "image": {"quality": 80}})
            assert site.link.wait(lambda version=wanted.version: _applied(site.link, version), WAIT_S)  # type: ignore[misc]
        wait_until(lambda: site.device.ended, "the end of the recording", WAIT_S)
    assert site.device.health.counters.snapshot()["frames"] == FRAMES
    assert site.device.settings.image.quality == 80


def _applied(link: Link, version: int) -> bool:
    report = link.device(GATE).config
    return report is not None and report.version == version


def test_a_good_model_goes_live_between_two_frames_and_the_old_file_is_kept(site: Site) -> None:
    bundle = site.bundle(2)
    server = BlockServer(site.link, bundle)
    with site.link, server, site.device.running():
        site.wait_online()
        state = site.ask("model_update", **an_update(bundle).model_dump(mode="json"))
        assert (state.status, state.reason) == ("successful", None)
        wait_until(lambda: site.device.ended, "the end of the recording", WAIT_S)

    kept = site.kept()
    models = [model for _, model in kept]
    switch = models.index("new")
    assert len(kept) == FRAMES
    assert models == ["old"] * switch + ["new"] * (FRAMES - switch)
    assert (site.configured / "model.onnx").exists()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [(ROWS * 20, "times as many objects"), (((8, 8, 24, 24, float("nan"), 1),), "not a detector's")],
    ids=["drifts", "NaN"],
)
def test_a_bad_model_ends_with_the_old_one_running(site: Site, rows: Any, reason: str) -> None:
    bundle = site.bundle(2, model=a_model(end2end(rows)))
    server = BlockServer(site.link, bundle)
    with site.link, server, site.device.running():
        site.wait_online()
        wait_until(lambda: site.device.health.counters.snapshot().get("frames", 0) > 60, "a baseline")
        state = site.ask("model_update", **an_update(bundle).model_dump(mode="json"))
        assert state.status == "failed"
        assert reason in str(state.reason)
        wait_until(lambda: site.device.ended, "the end of the recording", WAIT_S)

    kept = site.kept()
    assert len(kept) == FRAMES
    assert kept[-1][1] == "old"


def test_capture_delivers_a_frame_that_was_taken_after_the_command(site: Site) -> None:
    with site.link, site.device.running():
        site.wait_online()
        issued_ns = time.time_ns()
        state = site.ask("capture", camera="gate")
        assert state.status == "successful"
        assert state.result
        meta = read_item(site.folder / "state/spool", state.result["cids"][0]).meta
        assert meta.lane == "manual"
        assert meta.ts_ns > issued_ns


def test_a_redaction_that_the_model_cannot_do_is_refused_and_collection_goes_on(site: Site) -> None:
    with site.link, site.device.running():
        site.wait_online()
        put(site.link, Target.parse(GATE), {"cameras": {"gate": {"redact": ["face"]}}})

        def complained() -> bool:
            report = site.link.device(GATE).config
            return report is not None and any("face" in error.msg for error in report.errors)

        assert site.link.wait(complained, WAIT_S)
        assert site.device.settings.cameras[0].redact == ()
        wait_until(lambda: site.device.ended, "the end of the recording", WAIT_S)
    assert site.device.health.counters.snapshot()["frames"] == FRAMES
