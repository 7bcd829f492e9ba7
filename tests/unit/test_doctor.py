"""The doctor: each broken set-up is named with its remedy, and a sound one is not complained about."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.clock import Clock
from agent.doctor import Check, machine, run_checks, sight
from tests.fakes.clock import FakeClock
from tests.fakes.models import a_model, end2end

NOW_NS = int(datetime(2026, 6, 1, tzinfo=timezone.utc).timestamp() * 1e9)


class Site:
    """A device's set-up that is sound but for the broker, which refuses connections; tests break it further."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames = folder / "frames"
        self.frames.mkdir()
        self.picture(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8))
        self.model = folder / "tiny.onnx"
        self.model.write_bytes(a_model(end2end([])))
        self.clock = FakeClock(wall_ns=NOW_NS)
        self.broker = f'host = "127.0.0.1"\nport = {unused_port()}\ntls = false\nreconnect_max_s = 1.0\n'
        self.camera = f'name = "gate"\nsource = "{self.frames}"\n'
        self.model_keys = self.more = ""

    def picture(self, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
        cv2.imwrite(str(self.frames / "1.png"), image)

    def config(self) -> Path:
        path = self.folder / "agent.toml"
        text = (
            f'[device]\nid = "gate-north"\nstate_dir = "{self.folder}/state"\n[broker]\n{self.broker}'
            f'[[cameras]]\n{self.camera}[model]\npath = "{self.model}"\n{self.model_keys}[spool]\nmax_bytes = 1000000\n'
            f"reserve_bytes = 1000\n{self.more}"
        )
        path.write_text(text, "utf-8")
        return path

    def checks(self) -> list[Check]:
        return run_checks(self.config(), clock=self.clock, environ={})

    def finding(self, name: str) -> Check:
        """The one finding of that name that is not ok; every problem has a remedy."""
        checks = self.checks()
        assert all(check.remedy for check in checks if check.status != "ok")
        (found,) = (check for check in checks if check.name == name and check.status != "ok")
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return Site(tmp_path)


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_sound_device_has_nothing_to_complain_about_but_its_broker(site: Site) -> None:
    status = {check.name: check.status for check in site.checks()}
    assert status == {
        "config": "warn",  # no TLS
        "permissions": "ok",
        "disk": "ok",
        "clock": "ok",
        "model": "ok",
        "camera gate": "ok",
        "broker": "fail",
    }


def test_a_check_writes_nothing(site: Site) -> None:
    config = site.config()
    before = sorted(site.folder.rglob("*"))
    run_checks(config, clock=site.clock, environ={})
    assert sorted(site.folder.rglob("*")) == before


def test_a_missing_config_file_is_the_only_finding(tmp_path: Path) -> None:
    (check,) = run_checks(tmp_path / "absent.toml", environ={})
    assert (check.name, check.status) == ("config", "fail")
    assert "no such config file" in check.detail
    assert check.remedy


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("[health]\nstats = 60\n", "did you mean 'stats_s'"),
        ("[health]\nstats_s = 0\n", "health.stats_s"),
        ("[health\n", "agent.toml"),
    ],
    ids=["unknown key", "impossible value", "not TOML"],
)
def test_a_config_that_cannot_be_used_is_the_only_finding(site: Site, more: str, named: str) -> None:
    site.more = more
    (check,) = site.checks()
    assert (check.name, check.status) == ("config", "fail")
    assert named in check.detail
    assert check.remedy


def test_a_device_without_a_broker_cannot_run(site: Site) -> None:
    site.broker = ""
    (check,) = site.checks()
    assert "broker.host" in check.detail
    assert 'host = "' in check.remedy


def test_a_password_that_others_can_read_is_a_warning(site: Site) -> None:
    site.camera += 'password = "x"\n'
    site.broker = site.broker.replace("tls = false", "tls = true")
    found = site.finding("config")
    assert "others can read it" in found.detail
    assert "chmod 600" in found.remedy


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("/nowhere/clip.mp4", "/nowhere/clip.mp4"),
        ("/dev/video97", "/dev/video97 does not exist"),
        ("97", "/dev/video97 does not exist"),
    ],
)
def test_a_camera_that_is_not_there_is_named(site: Site, source: str, named: str) -> None:
    site.camera = f'name = "gate"\nsource = "{source}"\n'
    found = site.finding("camera gate")
    assert found.status == "fail"
    assert named in found.detail


def test_a_folder_without_pictures_is_named(site: Site) -> None:
    (site.frames / "1.png").unlink()
    assert "no images" in site.finding("camera gate").detail


def test_a_stream_that_does_not_answer_fails_and_keeps_its_password(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "FIRST_FRAME_S", 0.5)
    source = f"http://viewer@127.0.0.1:{unused_port()}/stream"
    site.camera = f'name = "gate"\nsource = "{source}"\npassword = "hunter2"\ntimeout_s = 0.5\n'
    found = site.finding("camera gate")
    assert found.status == "fail"
    assert "hunter2" not in found.detail + found.remedy
    assert "password" in found.remedy


@pytest.mark.parametrize(("level", "word"), [(0, "black"), (200, "one colour")])
def test_a_picture_without_content_is_a_warning(site: Site, level: int, word: str) -> None:
    site.picture(np.full((48, 64, 3), level, np.uint8))
    found = site.finding("camera gate")
    assert found.status == "warn"
    assert word in found.detail


def test_a_camera_in_use_is_left_alone(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "_held_by_another", lambda device: 4711)
    site.camera = 'name = "gate"\nsource = "/dev/null"\n'
    assert Check("camera gate", "ok", "/dev/null is in use by process 4711") in site.checks()


def test_a_missing_model_is_named(site: Site) -> None:
    site.model.unlink()
    assert "does not exist" in site.finding("model").detail


def test_a_file_that_is_no_model_is_named(site: Site) -> None:
    site.model.write_bytes(b"not a model")
    found = site.finding("model")
    assert "not an ONNX model" in found.detail
    assert "export" in found.remedy


def test_a_model_of_another_task_is_named(site: Site) -> None:
    site.model.write_bytes(a_model(end2end([]), task="segment"))
    assert "segment" in site.finding("model").detail


def test_a_class_to_redact_that_the_model_does_not_know_is_named(site: Site) -> None:
    site.camera += 'redact = ["face"]\n'
    assert "face" in site.finding("model").detail


def test_a_trusted_key_that_is_none_is_named(site: Site) -> None:
    site.model_keys = 'trusted_keys = ["c2hvcnQ="]\n'
    found = site.finding("model")
    assert found.status == "fail"
    assert "ed25519" in found.detail


def test_a_model_that_cannot_keep_up_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "_seconds_per_frame", lambda detector: 0.5)
    site.camera = 'name = "gate"\nsource = "/dev/video97"\nfps = 5.0\n'
    found = site.finding("model")
    assert found.detail == "500 ms a frame, and the cameras ask for 5 frames a second"


def test_a_gpu_that_is_not_used_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "_NVIDIA", (Path("/dev/null"),))
    assert "--jetson" in site.finding("model").remedy


def test_a_disk_too_small_for_the_spool_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_disk(monkeypatch, free=500_000)
    found = site.finding("disk")
    assert found.status == "warn"
    assert "spool.max_bytes" in found.remedy


def fake_disk(
    monkeypatch: pytest.MonkeyPatch, *, free: int = 10**12, flag: int = 0, files: int = 10**6, left: int = 10**6
) -> None:
    disk = os.statvfs_result((1, 1, free, free, free, files, left, left, flag, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)


def test_a_full_disk_is_a_failure(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_disk(monkeypatch, free=10)
    assert site.finding("disk").status == "fail"


def test_a_disk_without_inodes_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_disk(monkeypatch, left=12)
    assert "12 more files" in site.finding("disk").detail


def test_a_read_only_disk_is_a_failure(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_disk(monkeypatch, flag=os.ST_RDONLY)
    found = site.finding("disk")
    assert (found.status, "read-only" in found.detail) == ("fail", True)


def test_a_state_folder_in_memory_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_file_system", lambda place: "tmpfs")
    assert "lost" in site.finding("disk").detail


def test_a_state_folder_that_is_a_file_is_a_failure(site: Site) -> None:
    (site.folder / "state").write_text("")
    assert "is not a folder" in site.finding("permissions").detail


def test_root_is_told_what_the_service_cannot_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    site.model.chmod(0o600)
    assert str(site.model) in site.finding("permissions").detail


def test_a_clock_from_before_the_product_existed_is_wrong(site: Site) -> None:
    site.clock.wall = 0
    found = site.finding("clock")
    assert (found.status, "1970-01-01" in found.detail) == ("fail", True)


def test_a_clock_that_is_not_synchronised_is_a_warning(site: Site) -> None:
    site.clock.is_synced = False
    assert site.finding("clock").status == "warn"


def test_a_broker_that_refuses_connections_is_named(site: Site) -> None:
    found = site.finding("broker")
    assert "Connection refused" in found.detail
    assert "firewall" in found.remedy


def test_a_broker_whose_name_is_unknown_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> socket.socket:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    site.broker = site.broker.replace("127.0.0.1", "broker.invalid")
    found = site.finding("broker")
    assert found.detail == "the name broker.invalid is not known"


@pytest.fixture
def listen() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Start a server that treats each connection in the given way; returns its port."""
    servers: list[socket.socket] = []

    def start(serve: Callable[[socket.socket], None]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def run() -> None:
            while True:
                try:
                    channel, _ = server.accept()
                except OSError:
                    return
                with channel:
                    try:
                        serve(channel)
                    except OSError:
                        continue

        threading.Thread(target=run, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_tls_towards_a_port_without_it_is_named(
    site: Site, listen: Callable[[Callable[[socket.socket], None]], int]
) -> None:
    port = listen(lambda channel: channel.sendall(b"220 hello\r\n"))
    site.broker = f'host = "127.0.0.1"\nport = {port}\n'
    assert "no TLS" in site.finding("broker").detail


def test_a_broker_of_an_unknown_authority_is_named(
    site: Site, listen: Callable[[Callable[[socket.socket], None]], int]
) -> None:
    cert, key = certificate(site.folder, "broker", site.clock)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    port = listen(lambda channel: context.wrap_socket(channel, server_side=True).close())
    site.broker = f'host = "127.0.0.1"\nport = {port}\n'
    found = site.finding("broker")
    assert "self-signed" in found.detail
    assert "broker.ca_file" in found.remedy


def test_something_that_is_no_broker_is_named(
    site: Site, listen: Callable[[Callable[[socket.socket], None]], int]
) -> None:
    port = listen(lambda channel: channel.close())
    site.broker = f'host = "127.0.0.1"\nport = {port}\ntls = false\n'
    found = site.finding("broker")
    assert found.status == "warn"
    assert "is this an MQTT broker" in found.remedy


def test_an_authority_file_that_is_missing_is_named(site: Site) -> None:
    site.broker = 'host = "127.0.0.1"\nca_file = "/nowhere/ca.pem"\n'
    assert "/nowhere/ca.pem" in site.finding("broker").detail


def certificate(folder: Path, name: str, clock: Clock, *, days: int = 365) -> tuple[Path, Path]:
    """A self-signed certificate that ends in `days` from now, and its private key."""
    now = datetime.fromtimestamp(clock.wall_ns() / 1e9, timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[1].write_bytes(private)
    paths[1].chmod(0o600)
    return paths


def with_certificate(site: Site, name: str, *, days: int = 365) -> Path:
    cert, key = certificate(site.folder, name, site.clock, days=days)
    site.broker = f'host = "127.0.0.1"\nport = {unused_port()}\ncert_file = "{cert}"\nkey_file = "{key}"\n'
    return key


def test_a_certificate_that_has_ended_is_named(site: Site) -> None:
    with_certificate(site, "gate-north", days=-1)
    found = site.finding("certificate")
    assert (found.status, "provision" in found.remedy) == ("fail", True)


def test_a_certificate_that_ends_soon_is_a_warning(site: Site) -> None:
    with_certificate(site, "gate-north", days=10)
    assert site.finding("certificate").status == "warn"


def test_a_certificate_of_another_device_is_a_warning(site: Site) -> None:
    with_certificate(site, "gate-south")
    assert "gate-south" in site.finding("certificate").detail


def test_a_key_that_others_can_read_is_a_failure(site: Site) -> None:
    with_certificate(site, "gate-north").chmod(0o644)
    checks = [check for check in site.checks() if check.name == "permissions" and check.status == "fail"]
    assert [check.remedy for check in checks] == [f"chmod 600 {site.folder}/gate-north.key"]
