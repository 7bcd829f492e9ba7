"""The configuration: precedence, origin of each value, and refusals that name source, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.errors import ConfigError
from agent.settings import load, remote_keys, shown_source
from agent.settings.loading import default_device_id

GATE = '[[cameras]]\nname = "gate"\nsource = "0"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text, "utf-8")
    return path


def test_every_key_has_a_default_when_nothing_is_configured() -> None:
    settings = load(environ={}).settings
    assert settings.selection.budget == 0.02
    assert settings.cameras == ()
    assert settings.device.id


def test_sections_are_frozen(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GATE), environ={}).settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.selection.budget = 0.5  # type: ignore[misc]


def test_each_layer_overrides_the_ones_below_it(tmp_path: Path) -> None:
    path = write(tmp_path, GATE + "fps = 1\n[selection]\nbudget = 0.1\nseed = 1\nwindow_frames = 10\nwindow_s = 5\n")
    environ = {"TAILKEEPER_SELECTION__SEED": "3", "TAILKEEPER_SELECTION__WINDOW_FRAMES": "30"}
    loaded = load(path, environ=environ, command_line={"selection": {"window_frames": 40}})
    loaded = loaded.with_desired({"selection": {"window_s": 6, "window_frames": 20}, "cameras": {"gate": {"fps": 2}}})

    selection, origins = loaded.settings.selection, loaded.origins()
    assert (selection.budget, origins["selection.budget"]) == (0.1, str(path))
    assert (selection.window_s, origins["selection.window_s"]) == (6, "fleet")
    assert (selection.seed, origins["selection.seed"]) == (3, "environment")
    assert (selection.window_frames, origins["selection.window_frames"]) == (40, "command line")
    assert (loaded.settings.cameras[0].fps, origins["cameras.gate.fps"]) == (2, "fleet")
    assert origins["image.quality"] == "default"


def test_a_lane_that_shares_does_not_name_has_share_zero(tmp_path: Path) -> None:
    shares = load(write(tmp_path, "[selection]\nshares = { canary = 1.0 }\n"), environ={}).settings.selection.shares
    assert (shares.canary, shares.uncertain, shares.rare) == (1.0, 0.0, 0.0)


def test_credentials_give_passwords_and_never_show_them(tmp_path: Path) -> None:
    (tmp_path / "broker_password").write_text("s3cret-b\n")
    (tmp_path / "camera_gate_password").write_text("s3cret-c")
    loaded = load(write(tmp_path, GATE), environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.settings.broker.password == "s3cret-b"
    assert loaded.settings.cameras[0].password == "s3cret-c"
    assert loaded.origins()["broker.password"] == "credential"
    assert "s3cret" not in repr(loaded.settings)


def test_outside_systemd_credentials_are_found_beside_the_config_file(tmp_path: Path) -> None:
    folder = tmp_path / "agent.credentials"
    folder.mkdir()
    (folder / "broker_password").write_text("\n")
    (folder / "client_key").write_text("-----BEGIN PRIVATE KEY-----\n")
    loaded = load(write(tmp_path, GATE + '[broker]\ncert_file = "c.pem"\npassword = "kept"\n'), environ={})
    assert loaded.settings.broker.key_file == str(folder / "client_key")
    assert loaded.settings.broker.password == "kept"


def test_a_credential_of_an_unknown_camera_makes_no_camera(tmp_path: Path) -> None:
    (tmp_path / "camera_ghost_password").write_text("x")
    loaded = load(write(tmp_path, GATE), environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert [camera.name for camera in loaded.settings.cameras] == ["gate"]


def test_an_empty_device_id_means_the_machines_own(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, '[device]\nid = ""\ngroups = ["north"]\n'), environ={})
    assert loaded.settings.device.id == load(environ={}).settings.device.id != ""
    assert loaded.settings.device.groups == ("north",)


def test_the_state_folder_of_systemd_is_the_default(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, GATE), environ={"STATE_DIRECTORY": "/run/state:/run/other"})
    assert loaded.settings.device.state_dir == Path("/run/state")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[selection]\nbudgt = 1\n", "selection.budgt: unknown key; did you mean 'budget'?"),
        ("[selecton]\nbudget = 1\n", "selecton: unknown key; did you mean 'selection'?"),
        (GATE + "fpss = 1\n", "cameras.gate.fpss: unknown key; did you mean 'fps'?"),
        ("[selection]\nbudget = 3\n", "selection.budget: 3: input should be less than or equal to 1"),
        ("[selection]\nbudget = nan\n", "selection.budget: nan: input should be"),
        ("[broker]\nport = 'many'\n", "broker.port: 'many': input should be a valid integer"),
        ("[broker]\ncert_file = 'a'\n", "broker: cert_file and key_file belong together"),
        ("[broker]\npassword = 7\n", "broker.password: input should be a valid string"),
        ("[model]\nselect_floor = 0.5\n", "model: select_floor is above serve_threshold"),
        ("[selection]\nshares = { uncertain = 0.8, rare = 0.8 }\n", "the shares add up to 1.600"),
        (
            GATE + "schedule = 'Mon-Fry 06:00-20:00'\n",
            "cameras.gate.schedule: 'Mon-Fry 06:00-20:00': 'Fry' is not a day",
        ),
        (GATE + "schedule = 'always'\n", "write it like 'Mon-Fri 06:00-20:00'"),
        (GATE + "masks = [[[0.1, 0.1], [0.2, 2.0], [0.3, 0.3]]]\n", "cameras.gate.masks.0.1.1"),
        (GATE + GATE, "two are called 'gate'"),
        ("[[cameras]]\nsource = '0'\n", "each needs a name"),
        ("[[cameras]]\nname = 'a/b'\nsource = '0'\n", "cameras.a/b.name"),
        ("= 3", "the file must be readable TOML in UTF-8"),
    ],
)
def test_impossible_values_are_refused_with_file_key_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_complaints_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "[broker]\nport = 0\n[selection]\nbudget = 0\n"), environ={})
    assert len(str(caught.value).splitlines()) == 2


def test_a_wrong_password_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={"TAILKEEPER_BROKER__PASSWORD": "x", "TAILKEEPER_BROKER__HOTS": "hunter2"})
    assert "environment: broker.hots: unknown key; did you mean 'host'?" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_unknown_section_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="TAILKEEPER_BROKR__HOST: no section 'brokr'; did you mean 'broker'"):
        load(environ={"TAILKEEPER_BROKR__HOST": "x"})


def test_a_config_file_that_is_not_there_is_an_error_only_when_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: no such config file; name one with --config"):
        load(tmp_path / "gone.toml", environ={})


@pytest.mark.parametrize(
    "values",
    [
        {"broker": {"host": "elsewhere"}},
        {"cameras": {"gate": {"source": "/dev/video7"}}},
        {"cameras": {"ghost": {"fps": 1}}},
        {"selection": {"seed": 4}},
        {"selection": {"budget": "much"}},
        {"selection": 7},
        {"nonsense": {"a": 1}},
    ],
)
def test_the_fleet_cannot_set_what_is_not_remote_settable_or_impossible(
    tmp_path: Path, values: dict[str, object]
) -> None:
    loaded = load(write(tmp_path, GATE), environ={})
    with pytest.raises(ConfigError):
        loaded.with_desired(values)


def test_desired_values_replace_earlier_desired_values_whole(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, GATE), environ={}).with_desired({"selection": {"budget": 0.5}})
    again = loaded.with_desired({"image": {"quality": 50}})
    assert (again.settings.selection.budget, again.settings.image.quality) == (0.02, 50)


def test_the_contract_names_what_is_remote_settable() -> None:
    assert {"selection.budget", "cameras.fps", "uplink.paused", "model.select_floor"} <= remote_keys()
    assert not {"selection.seed", "broker.host", "cameras.source", "spool.max_bytes"} & remote_keys()


def test_the_default_device_id_is_a_safe_topic_level_and_tells_clones_apart() -> None:
    assert default_device_id("gate.north lane", "10000000AbCdEf01") == "gate-north-lane-abcdef01"
    assert default_device_id("", "") == "device-00000000"
    assert len(default_device_id("x" * 200, "1")) == 64


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://me:secret@host:554/a?user=me&password=secret#secret", "rtsp://me@host:554/a?..."),
        ("rtsp://host/a", "rtsp://host/a"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_a_source_is_shown_without_its_secrets(source: str, shown: str) -> None:
    assert shown_source(source) == shown


def test_what_is_shown_of_a_configuration_holds_no_secret(tmp_path: Path) -> None:
    text = GATE.replace('"0"', '"rtsp://me:secret@host/a?token=secret"') + 'password = "secret"\n'
    loaded = load(write(tmp_path, text + '[broker]\npassword = "secret"\n'), environ={})
    shown = dict(loaded.shown())
    assert (shown["cameras.gate.source"], shown["broker.password"]) == ("rtsp://me@host/a?...", "***")
    assert "secret" not in str(shown) + str(loaded.tables())
