"""Health: counters, percentiles, the watchdog that only real work feeds, crash loops, sensors, metrics and logs."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import wire
from agent.errors import ServiceError
from agent.health import (
    Counters,
    CrashLoop,
    Health,
    Latencies,
    Notifier,
    Pulse,
    Sensors,
    Watchdog,
    answering,
    ask,
    frame_patience,
    frames_flow,
    keep_prometheus,
    progresses,
    prometheus_text,
    set_level,
    setup_logging,
    write_prometheus,
)
from agent.health.logs import hide_secrets
from agent.health.sensors import disk_free_mb
from agent.health.status import SOCKET
from agent.settings import HealthSettings
from tests.fakes.clock import FakeClock


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The other end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(10)
        yield channel


def notifier_to(systemd: socket.socket, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": systemd.getsockname(), **environ})


def told(systemd: socket.socket) -> str:
    return systemd.recv(4096).decode()


def test_counters_lose_nothing_between_threads() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(1000):
            counters.add("frames")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counters.add("errors", 2)
    assert counters["frames"] == 4000
    assert counters.snapshot() == {"errors": 2, "frames": 4000}
    assert counters["never seen"] == 0


def test_percentiles_speak_of_recent_work_only() -> None:
    latencies = Latencies(recent=100)
    assert latencies.percentiles() == {"p50": None, "p95": None}
    for milliseconds in [10_000] * 50 + list(range(1, 101)):
        latencies.add(milliseconds / 1000)
    assert latencies.percentiles() == {"p50": 50.5, "p95": 95.05}


def test_a_pulse_tells_how_long_nothing_moved() -> None:
    clock = FakeClock()
    pulse = Pulse(clock)
    clock.advance(5)
    assert pulse.age_s() == 5
    clock.jump(-3e8)
    pulse.beat()
    assert pulse.age_s() == 0


def test_without_systemd_nothing_is_sent() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.feed()
    assert notifier.watchdog_s == 0


def test_systemd_is_told_of_start_reload_and_stop(systemd: socket.socket) -> None:
    notifier = notifier_to(systemd, WATCHDOG_USEC="30000000")
    notifier.ready("2 cameras")
    assert told(systemd) == "READY=1\nSTATUS=2 cameras"
    notifier.reloading()
    assert told(systemd).startswith("RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert told(systemd) == "STOPPING=1\nSTATUS=stopping"
    assert notifier.watchdog_s == 30


def test_a_watchdog_meant_for_another_process_is_not_ours(systemd: socket.socket) -> None:
    assert notifier_to(systemd, WATCHDOG_USEC="30000000", WATCHDOG_PID="1").watchdog_s == 0


def test_a_systemd_that_went_away_does_not_stop_the_service(systemd: socket.socket) -> None:
    notifier = notifier_to(systemd)
    systemd.close()
    notifier.feed()


def test_the_watchdog_is_fed_while_all_checks_pass(systemd: socket.socket) -> None:
    assert Watchdog(notifier_to(systemd), [lambda: None]).look()
    assert told(systemd) == "WATCHDOG=1"


def test_an_unfed_watchdog_says_why_once(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    complaint: list[str | None] = ["no frame for 10 s"]
    watchdog = Watchdog(notifier_to(systemd), [lambda: complaint[0]])
    assert not watchdog.look()
    assert not watchdog.look()
    assert told(systemd) == "STATUS=no frame for 10 s"
    assert watchdog.complaints == ("no frame for 10 s",)
    complaint[0] = None
    with caplog.at_level(logging.INFO, "agent"):
        assert watchdog.look()
    assert [told(systemd), told(systemd)] == ["STATUS=running", "WATCHDOG=1"]
    assert [record.message for record in caplog.records] == ["unhealthy", "healthy again"]


def test_the_watchdog_thread_ends_when_it_is_told(systemd: socket.socket) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Watchdog(notifier_to(systemd), []).run, args=(stop,))
    thread.start()
    assert told(systemd) == "WATCHDOG=1"
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("states", "patience"),
    [
        (["live"], 10.0),
        (["stalled", "live", "ended"], 10.0),
        (["stalled"], 600.0),
        (["starting", "ended"], 600.0),
        (["frozen"], 600.0),
        (["dark"], 10.0),
        (["ended", "off"], None),
        (["paused"], None),
        ([], None),
    ],
)
def test_a_frame_is_owed_by_what_the_cameras_are_doing(states: list[str], patience: float | None) -> None:
    assert frame_patience(states, 10.0) == patience


def test_stale_frames_are_a_complaint_unless_none_is_expected() -> None:
    patience: list[float | None] = [10.0]
    age = [10.0]
    check = frames_flow(lambda: age[0], lambda: patience[0])
    assert check() is None
    age[0] = 10.1
    assert check() == "no frame for 10 s"
    patience[0] = None
    assert check() is None


def test_a_loop_that_does_not_move_is_a_complaint() -> None:
    clock = FakeClock()
    pulse = Pulse(clock)
    check = progresses("uplink", pulse.age_s, 60)
    clock.advance(61)
    assert check() == "uplink has not moved for 60 s"
    pulse.beat()
    assert check() is None


def test_five_crashes_in_ten_minutes_end_in_safe_mode(tmp_path: Path) -> None:
    clock = FakeClock()
    for _ in range(5):
        assert not CrashLoop(tmp_path / "starts.json", clock).starting()
        clock.advance(60)
    assert CrashLoop(tmp_path / "starts.json", clock).starting()


def test_a_clean_stop_forgives_crashes(tmp_path: Path) -> None:
    clock = FakeClock()
    crashes = CrashLoop(tmp_path / "starts.json", clock, limit=1)
    assert not crashes.starting()
    crashes.stopped()
    assert not crashes.starting()
    assert crashes.starting()


def test_rare_crashes_and_power_cuts_are_no_crash_loop(tmp_path: Path) -> None:
    clock = FakeClock()
    crashes = CrashLoop(tmp_path / "starts.json", clock, limit=2)
    for _ in range(10):
        clock.advance(400)
        assert not crashes.starting()
    for _ in range(10):
        clock.reboot()
        assert not crashes.starting()


def fake_sys(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_what_a_device_cannot_say_is_unknown(tmp_path: Path) -> None:
    sensors = Sensors(FakeClock(), sys=tmp_path, proc=tmp_path)
    assert sensors.temperature_c() is None
    assert sensors.throttled() is None
    assert sensors.rss_mb() is None
    assert sensors.cpu() is None
    assert disk_free_mb(tmp_path / "absent") is None


def test_the_hottest_plausible_zone_counts(tmp_path: Path) -> None:
    zones = {f"class/thermal/thermal_zone{i}/temp": t for i, t in enumerate(["48500\n", "61000\n", "-256000\n", "?"])}
    assert Sensors(FakeClock(), sys=fake_sys(tmp_path, **zones)).temperature_c() == 61.0


@pytest.mark.parametrize(("bits", "now"), [("0", False), ("50000", False), ("50005", True), ("junk", None)])
def test_a_pi_says_in_sysfs_whether_it_is_throttled(tmp_path: Path, bits: str, now: bool | None) -> None:
    files = {"devices/platform/soc/soc:firmware/get_throttled": f"{bits}\n"}
    assert Sensors(FakeClock(), sys=fake_sys(tmp_path, **files)).throttled() is now


@pytest.mark.parametrize(("answer", "now"), [("throttled=0x0", False), ("throttled=0x4", True), (None, None)])
def test_a_pi_without_that_file_is_asked_through_vcgencmd(tmp_path: Path, answer: str | None, now: bool | None) -> None:
    files = {"firmware/devicetree/base/model": "Raspberry Pi 5"}
    assert Sensors(FakeClock(), sys=fake_sys(tmp_path, **files), vcgencmd=lambda: answer).throttled() is now


def test_a_jetson_is_throttled_while_over_currents_are_counted(tmp_path: Path) -> None:
    name = "class/hwmon/hwmon1/oc1_event_cnt"
    sensors = Sensors(FakeClock(), sys=fake_sys(tmp_path, **{name: "7\n"}))
    assert sensors.throttled() is False
    fake_sys(tmp_path, **{name: "9\n"})
    assert sensors.throttled() is True
    assert sensors.throttled() is False


def test_a_frequency_held_down_by_heat_is_throttling(tmp_path: Path) -> None:
    cooling = "class/thermal/cooling_device0"
    files = {f"{cooling}/type": "cpufreq-cpu0\n", f"{cooling}/cur_state": "2\n"}
    assert Sensors(FakeClock(), sys=fake_sys(tmp_path, **files)).throttled() is True


def test_cpu_is_counted_in_busy_cores() -> None:
    clock, busy_s = FakeClock(), [0.0]
    sensors = Sensors(clock, cpu_s=lambda: busy_s[0])
    clock.advance(10)
    busy_s[0] = 15.0
    assert sensors.cpu() == 1.5
    assert sensors.rss_mb()


def stats_of(tmp_path: Path) -> wire.Stats:
    health = Health(FakeClock(), tmp_path, sensors=Sensors(FakeClock(), sys=tmp_path))
    health.counters.add("frames", 3)
    health.inference.add(0.04)
    return health.stats(
        cameras={"gate": wire.CameraStats(state="live", fps=5.0, frame_age_s=0.2, reconnects=1, dropped=0)},
        spool=wire.SpoolStats(items=2, bytes=10, oldest_s=None, sent=1, quarantined=0, evicted={"age": 4}),
        budget={"rare": wire.BudgetStats(spent=1.0, left=2.5)},
        drift={"gate": {"brightness": 0.5}},
    )


def test_stats_survive_the_wire(tmp_path: Path) -> None:
    stats = stats_of(tmp_path)
    assert wire.Stats.decode(stats.encode()) == stats
    assert stats.counters == {"frames": 3}
    assert stats.temp_c is None
    assert stats.disk_free_mb


def test_prometheus_gets_every_known_number_with_its_labels(tmp_path: Path) -> None:
    text = prometheus_text(stats_of(tmp_path))
    assert 'tailkeeper_cameras_fps{camera="gate"} 5.0\n' in text
    assert 'tailkeeper_cameras_state{camera="gate",state="live"} 1\n' in text
    assert 'tailkeeper_counters{counter="frames"} 3\n' in text
    assert 'tailkeeper_spool_evicted{reason="age"} 4\n' in text
    assert 'tailkeeper_drift_brightness{camera="gate"} 0.5\n' in text
    assert "# TYPE tailkeeper_spool_items gauge\ntailkeeper_spool_items 2\n" in text
    assert "tailkeeper_clock_synced 1\n" in text
    assert "temp_c" not in text
    assert "None" not in text


def test_the_prometheus_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "tailkeeper.prom"
    path.write_text("old")
    write_prometheus(path, stats_of(tmp_path))
    assert path.read_text().startswith("# TYPE tailkeeper_uptime_s gauge\n")
    assert [entry.name for entry in tmp_path.glob("tailkeeper*")] == ["tailkeeper.prom"]


def test_metrics_are_written_again_and_again_and_a_bad_place_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = [tmp_path / "absent" / "a.prom", tmp_path / "absent" / "b.prom", tmp_path / "c.prom"]

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == 60
            return not places

    def settings() -> HealthSettings:
        return HealthSettings(prometheus_file=str(places[0] if places else ""))

    def stats() -> wire.Stats:
        places.pop(0)
        return stats_of(tmp_path)

    stop = Stop()
    keep_prometheus(settings, stats, stop)
    assert (tmp_path / "c.prom").exists()
    assert [record.message for record in caplog.records] == ["metrics not written"]


def test_the_running_service_answers_on_its_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with answering(folder, lambda: {"mode": "running"}):
        assert ask(folder) == {"mode": "running"}
        assert ask(folder) == {"mode": "running"}
    with pytest.raises(ServiceError, match="does not run"):
        ask(folder)
    assert list(folder.iterdir()) == []


def test_a_socket_that_a_killed_service_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / SOCKET).write_text("")
    with answering(tmp_path, dict):
        assert ask(tmp_path) == {}


def test_without_a_place_for_the_socket_the_service_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with answering(tmp_path / "absent", dict):
        pass
    assert [record.message for record in caplog.records] == ["no status socket"]


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("agent")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


@pytest.mark.usefixtures("untouched_logging")
def test_json_logs_are_one_event_per_line_with_its_facts(capfd: pytest.CaptureFixture[str]) -> None:
    setup_logging(json=True, level="info")
    log = logging.getLogger("agent.camera")
    log.debug("not shown")
    log.info("camera live", extra={"camera": "gate", "password": "hunter2", "url": "rtsp://u:hunter2@10.0.0.5/s"})
    try:
        raise OSError("rtsp://u:hunter2@10.0.0.5/s")
    except OSError:
        log.exception("camera lost")
    live, lost = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert (live["event"], live["level"], live["from"], live["camera"]) == (
        "camera live",
        "info",
        "agent.camera",
        "gate",
    )
    assert live["url"] == "rtsp://***@10.0.0.5/s"
    assert "Traceback" in lost["traceback"]
    assert "hunter2" not in json.dumps([live, lost])


@pytest.mark.usefixtures("untouched_logging")
def test_text_logs_are_for_people_and_the_level_can_change(capfd: pytest.CaptureFixture[str]) -> None:
    setup_logging(json=False, level="warning")
    log = logging.getLogger("agent.uplink")
    log.info("not shown")
    set_level("info")
    log.info("receipt late", extra={"cid": "ab", "wait_s": 60})
    assert capfd.readouterr().err == "info    receipt late  cid=ab wait_s=60\n"


def test_secrets_are_hidden_at_any_depth() -> None:
    shown = hide_secrets({"broker": {"password": "x", "host": "h"}, "cameras": [{"source": "http://a:b@c/d"}]})
    assert shown == {"broker": {"password": "***", "host": "h"}, "cameras": [{"source": "http://***@c/d"}]}
    assert hide_secrets({"password": ""}) == {"password": ""}
