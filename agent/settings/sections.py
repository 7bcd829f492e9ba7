"""The sections of the configuration: keys, limits, and defaults with their reasons. All frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from agent.settings.schedule import parse_schedule

ENV_PREFIX = "TAILKEEPER_"
REMOTE: dict[str, JsonValue] = {"remote": True}
"""Marks a key that may be set from afar (R in the config contract)."""

NAME = r"^[A-Za-z0-9_-]{1,64}$"
Share = Annotated[float, Field(ge=0, le=1)]
Confidence = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Share, Share]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3)]


def _check_schedule(text: str) -> str:
    parse_schedule(text)
    return text


Schedule = Annotated[str, AfterValidator(_check_schedule)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys forbidden."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )


class DeviceSettings(Section):
    id: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """MQTT client id; empty: host name made safe + 8 hex digits of the board's serial (else of the machine id), which
    `load` puts here."""
    groups: tuple[Annotated[str, Field(pattern=NAME)], ...] = ()
    state_dir: Path = Path("/var/lib/tailkeeper")

    @property
    def spool_dir(self) -> Path:
        return self.state_dir / "spool"


class BrokerSettings(Section):
    host: str = ""
    port: int = Field(default=8883, ge=1, le=65_535)
    tls: bool = True
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    alpn: str = ""
    """Protocol name for brokers that share port 443, e.g. ``mqtt`` or ``x-amzn-mqtt-ca``."""
    username: str = ""
    password: str = Field(default="", repr=False)
    protocol: Literal["5", "3.1.1"] = "5"
    """Tried first. MQTT 3.1.1 is fallen back to, but a broker that does not even refuse MQTT 5 costs 15 s each time."""
    prefix: str = Field(default="tk/v1", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,2}$")
    keepalive_s: int = Field(default=60, ge=5, le=65_535)
    reconnect_min_s: float = Field(default=1.0, gt=0)
    reconnect_max_s: float = Field(default=120.0, gt=0)
    will_delay_s: int = Field(default=30, ge=0)
    max_packet_bytes: int = Field(default=126_000, ge=4_096, le=268_435_455)
    """AWS IoT Core takes 128 KB; lowered to what the broker announces."""

    @model_validator(mode="after")
    def _consistent(self) -> BrokerSettings:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file belong together: set both or neither")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s is below reconnect_min_s: set it to at least that")
        return self


class CameraSettings(Section):
    name: str = Field(pattern=NAME)
    source: str = Field(min_length=1)
    """``rtsp://...``, ``http://...``, ``/dev/video0`` or ``0``, a video file, a folder of images, ``picamera:0``,
    ``csi:0``, ``world:street?seed=1``."""
    password: str = Field(default="", repr=False)
    """Better: systemd credential ``camera_<name>_password``."""
    fps: float = Field(default=5.0, ge=0, le=1000, json_schema_extra=REMOTE)
    """Frames considered per second; 0 = as fast as the source gives (recorded sources only)."""
    loop: bool = False
    width: int = Field(default=0, ge=0, le=16_384)
    height: int = Field(default=0, ge=0, le=16_384)
    """Pixels asked of a USB or CSI camera; 0 = its default."""
    timeout_s: float = Field(default=3.0, ge=0.5, le=60)
    """For opening a network camera and for each of its frames; raise it for one that starts more slowly."""
    masks: tuple[Polygon, ...] = Field(default=(), json_schema_extra=REMOTE)
    redact: tuple[str, ...] = Field(default=(), json_schema_extra=REMOTE)
    schedule: Schedule = Field(default="", json_schema_extra=REMOTE)


class ModelSettings(Section):
    path: Path = Path("/var/lib/tailkeeper/model")
    serve_threshold: Confidence = Field(default=0.25, json_schema_extra=REMOTE)
    select_floor: Confidence = Field(default=0.02, json_schema_extra=REMOTE)
    """Rows between the floor and the serving threshold are where missed objects show."""
    threads: int = Field(default=0, ge=0, le=256)
    concurrency: int = Field(default=0, ge=0, le=16)
    """Inferences at once, which share the threads: two do more frames, one answers sooner and takes less memory."""
    providers: tuple[str, ...] = ()
    spin_us: int = Field(default=1000, ge=0, le=1_000_000)
    """How long threads of the model wait busily for each other: fastest where the processor is the agent's own. Where
    other programs keep it busy, 100 or 0 is several times as fast."""
    trusted_keys: tuple[str, ...] = ()
    trial_s: float = Field(default=600.0, gt=0)
    """A new model is compared with the one before for so long: some hundred frames at any usual rate."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelSettings:
        if self.select_floor > self.serve_threshold:
            raise ValueError(
                "select_floor is above serve_threshold: rows are selected from a lower floor than they are served"
            )
        return self


class Shares(Section):
    """Share of the budget per lane; a lane that is not named has share 0."""

    uncertain: Share = 0.0
    rare: Share = 0.0
    canary: Share = 0.0
    temporal: Share = 0.0

    @model_validator(mode="after")
    def _whole(self) -> Shares:
        total = self.uncertain + self.rare + self.canary + self.temporal
        if total > 1.001:
            raise ValueError(f"the shares add up to {total:.3f}: together they are at most 1")
        return self


class RuleSettings(Section):
    """A named rule as other systems have them; a frame matches when every condition that is set holds."""

    name: str = Field(pattern=NAME)
    classes: tuple[str, ...] = ()
    confidence: tuple[Confidence, Confidence] | None = None
    """Band [low, high]: a row of these classes with a confidence in the band."""
    count: tuple[int, int] | None = None
    """Number of served detections (of these classes) between these two, inclusive."""
    none_detected: bool = False
    every_s: float = Field(default=0.0, ge=0)
    probability: Share = 1.0
    cooldown_s: float = Field(default=0.0, ge=0)
    per_minute: int = Field(default=0, ge=0, le=10_000)
    per_hour: int = Field(default=0, ge=0, le=10_000)
    per_day: int = Field(default=0, ge=0, le=10_000)
    each_class: bool = False
    """Cooldown, timer and limits hold for each class by itself: dogs do not use up the cats' limit."""
    before: int = Field(default=0, ge=0, le=20)
    after: int = Field(default=0, ge=0, le=20)
    """Context frames before and after the match."""

    @model_validator(mode="after")
    def _consistent(self) -> RuleSettings:
        for name, band in (("confidence", self.confidence), ("count", self.count)):
            if band is not None and band[0] > band[1]:
                raise ValueError(f"{name} is [low, high], and {band[0]} is above {band[1]}")
        return self


class SelectionSettings(Section):
    budget: float = Field(default=0.02, gt=0, le=1, json_schema_extra=REMOTE)
    window_frames: int = Field(default=150, ge=1, le=100_000, json_schema_extra=REMOTE)
    window_s: float = Field(default=900.0, gt=0, json_schema_extra=REMOTE)
    seed: int = Field(default=0, ge=0)
    still_s: float = Field(default=2.0, ge=0, json_schema_extra=REMOTE)
    """While nothing moves, the model looks only once in so many seconds; 0: at every considered frame. Rules and the
    temporal lane follow every frame, and then this has no effect."""
    shares: Shares = Field(default=Shares(uncertain=0.5, rare=0.4, canary=0.1), json_schema_extra=REMOTE)
    frames_per_day: int = Field(default=500, ge=0, json_schema_extra=REMOTE)
    bytes_per_day: int = Field(default=200_000_000, ge=0, json_schema_extra=REMOTE)
    labels_per_day: int = Field(default=5000, ge=0, json_schema_extra=REMOTE)
    rules: tuple[RuleSettings, ...] = Field(default=(), json_schema_extra=REMOTE)


class ImageSettings(Section):
    quality: int = Field(default=90, ge=10, le=100, json_schema_extra=REMOTE)
    max_side: int = Field(default=1920, ge=64, le=16_384, json_schema_extra=REMOTE)


class SpoolSettings(Section):
    max_bytes: int = Field(default=2_000_000_000, ge=1_000_000)
    max_age_s: float = Field(default=2_592_000.0, gt=0)
    max_items: int = Field(default=200_000, ge=1)
    """Bounds the inodes and the index where images are tiny."""
    reserve_bytes: int = Field(default=20_000_000, ge=0)
    """Kept free on the disk by a file that is given up when the disk is full: SQLite cannot delete without room."""


class UplinkSettings(Section):
    bytes_per_s: int = Field(default=0, ge=0, json_schema_extra=REMOTE)
    receipt_timeout_s: float = Field(default=60.0, gt=0)
    receipt_timeout_max_s: float = Field(default=3600.0, gt=0)
    start_spread_s: float = Field(default=30.0, ge=0)
    quiet_hours: Schedule = Field(default="", json_schema_extra=REMOTE)
    paused: bool = Field(default=False, json_schema_extra=REMOTE)


class HealthSettings(Section):
    stats_s: float = Field(default=60.0, ge=1, json_schema_extra=REMOTE)
    frame_age_limit_s: float = Field(default=10.0, gt=0)
    prometheus_file: str = ""
    busy_share: float = Field(default=1.0, gt=0, le=1, json_schema_extra=REMOTE)
    """Share of the time that the model may be busy, for a device that has other work; halved while heat or low voltage
    throttle the hardware."""


class ControlSettings(Section):
    config_trial_s: float = Field(default=60.0, gt=0)
    """A desired configuration under which frames or the connection stop within this time is rolled back."""
    clock_wait_s: float = Field(default=600.0, ge=0)
    """A command waits so long for a synchronised clock, without which nobody can say whether it has expired."""


class CollectorSettings(Section):
    client_id: str = Field(default="collector-1", pattern=NAME)
    store: Path | None = None
    share_group: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    staging: str = ""
    max_image_bytes: int = Field(default=8_000_000, ge=1_000)


class Settings(BaseSettings):
    """The whole configuration; every section frozen."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__", protected_namespaces=()
    )

    device: DeviceSettings = DeviceSettings()
    broker: BrokerSettings = BrokerSettings()
    cameras: tuple[CameraSettings, ...] = ()
    model: ModelSettings = ModelSettings()
    selection: SelectionSettings = SelectionSettings()
    image: ImageSettings = ImageSettings()
    spool: SpoolSettings = SpoolSettings()
    uplink: UplinkSettings = UplinkSettings()
    health: HealthSettings = HealthSettings()
    control: ControlSettings = ControlSettings()
    collector: CollectorSettings = CollectorSettings()

    @field_validator("cameras")
    @classmethod
    def _distinct(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        names = [camera.name for camera in cameras]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two cameras are called {name!r}: each needs a name of its own")
        return cameras

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: `loading` reads the sources one by one, to know where each value came from."""
        return (init_settings,)
