"""The JSON payloads, and the model block, of protocol ``tk/v1``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from agent.errors import WireError
from agent.records import ModelRef, Record
from agent.wire.framing import first_error, frame, unframe
from agent.wire.topics import DEVICE

BLOCK_MAGIC = b"TKB1"
JSON_LIMIT = 262_144
"""Bytes of a JSON payload that a receiver accepts at most."""
PARTS_LIMIT = 256
QUERY_LIMIT = 100
MODEL_ID = r"^[A-Za-z0-9._-]{1,64}$"

Cid = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Payload(Record):
    """Base of the JSON payloads: version 1, unknown fields ignored, absent fields left out."""

    v: Literal[1] = 1

    def encode(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Parse and validate; raises WireError with the first complaint."""
        if len(payload) > JSON_LIMIT:
            raise WireError(f"{cls.__name__} of {len(payload)} bytes", remedy=f"at most {JSON_LIMIT}")
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            raise WireError(f"{cls.__name__}: {first_error(error)}") from None


class Status(Payload):
    """Presence. `boot` and `conn` order a device's statuses: an offline with an older pair is ignored."""

    state: Literal["online", "offline", "draining"]
    reason: str | None = None
    boot: str
    conn: int = Field(ge=0, lt=2**63)
    ts: str


class Info(Payload):
    """Birth certificate, once per connection."""

    device: str
    agent: str
    hardware: dict[str, Any]
    cameras: tuple[str, ...]
    model: ModelRef | None = None
    classes: tuple[str, ...]
    ops: tuple[str, ...]
    limits: dict[str, int]
    boot: str
    ts: str


class CameraStats(Record):
    state: str
    fps: float | None
    frame_age_s: float | None
    reconnects: int
    dropped: int


class InferStats(Record):
    """Milliseconds per inference."""

    p50: float | None
    p95: float | None


class SpoolStats(Record):
    items: int
    bytes: int
    oldest_s: float | None
    sent: int
    quarantined: int
    evicted: dict[str, int]


class BudgetStats(Record):
    spent: float
    left: float


class Stats(Payload):
    """How the device is doing; what is unknown is null."""

    ts: str
    uptime_s: float
    cameras: dict[str, CameraStats]
    infer_ms: InferStats
    cpu: float | None
    rss_mb: float | None
    temp_c: float | None
    throttled: bool | None
    clock_synced: bool
    disk_free_mb: float | None
    spool: SpoolStats
    budget: dict[str, BudgetStats]
    drift: dict[str, dict[str, float]]
    counters: dict[str, int]

    def encode(self) -> bytes:
        return self.model_dump_json().encode()


class DesiredConfig(Payload):
    """Remote-settable values, nested as in the config file; cameras by name."""

    version: int = Field(ge=0, lt=2**63)
    values: dict[str, Any]


class Versions(Record):
    """A version per level of desired config."""

    all: int = 0
    groups: dict[str, int] = Field(default_factory=dict)
    device: int = 0


class ConfigProblem(Record):
    level: str
    version: int
    path: str
    msg: str


class ReportedConfig(Payload):
    """What the device made of its desired config; `seen` is the highest version per level, applied or not."""

    version: int
    versions: Versions
    hash: str
    values: dict[str, Any]
    errors: tuple[ConfigProblem, ...] = ()
    seen: Versions


class NeedMap(Payload):
    """Class weights from the live training set: what the fleet still needs."""

    version: int = Field(ge=0, lt=2**63)
    weights: dict[str, float]
    verdicts: dict[str, Any] | None = None


class Command(Payload):
    cmd_id: str = Field(pattern=DEVICE)
    op: str = Field(max_length=64)
    args: dict[str, Any] = Field(default_factory=dict)
    issued: str
    expires: str
    by: str
    sig: str | None = None


class ModelUpdate(Record):
    """Arguments of the command ``model_update``."""

    model_id: str = Field(pattern=MODEL_ID)
    url: str = Field(default="", max_length=4096)
    """Where the model is fetched from by HTTP(S); without one, block by block over MQTT (`stream`)."""
    stream: bool = False
    size: int = Field(gt=0, lt=2**40)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    manifest: str
    """The manifest's exact bytes, base64."""
    signature: str = ""
    """Ed25519 over those bytes, base64."""

    @model_validator(mode="after")
    def _one_source(self) -> ModelUpdate:
        if bool(self.url) == self.stream:
            raise ValueError("either url or stream says where the model comes from")
        return self


CommandStatus = Literal["received", "executing", "successful", "failed", "rejected", "expired"]


class CommandState(Payload):
    cmd_id: str
    status: CommandStatus
    step: str | None = None
    progress: float | None = None
    reason: str | None = None
    result: dict[str, Any] | None = None


class Query(Payload):
    """Which of these candidates does the collector have?"""

    cids: tuple[Cid, ...] = Field(max_length=QUERY_LIMIT)


class Ack(Record):
    """What became of one candidate. `missing`: parts still wanted, of the split that was sent last."""

    cid: Cid
    st: Literal["stored", "duplicate", "partial", "rejected", "unknown"]
    missing: tuple[int, ...] | None = Field(default=None, max_length=PARTS_LIMIT)
    why: str | None = None
    retry_after: float | None = Field(default=None, ge=0, le=86_400)
    """Seconds to wait before sending it again."""


class Receipt(Payload):
    acks: tuple[Ack, ...] = Field(max_length=1000)
    slow: bool | None = None
    """The collector cannot keep up: send one candidate at a time until a receipt no longer says so."""


class BlockRequest(Payload):
    """A piece of a model file, wanted by the device."""

    model_id: str = Field(pattern=MODEL_ID)
    off: int = Field(ge=0, lt=2**40)
    len: int = Field(gt=0, le=1_048_576)


class BlockHeader(Payload):
    model_id: str = Field(pattern=MODEL_ID)
    off: int = Field(ge=0, lt=2**40)
    size: int = Field(gt=0, lt=2**40)
    """Bytes of the whole file."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the whole file."""


def encode_block(header: BlockHeader, body: bytes) -> bytes:
    """``TKB1``, header length (u32 big-endian), header JSON, bytes of the file from `off` on."""
    return frame(BLOCK_MAGIC, header.encode(), body)


def decode_block(payload: bytes) -> tuple[BlockHeader, memoryview]:
    """Header and bytes of a block; raises WireError for anything that is not one."""
    text, body = unframe(BLOCK_MAGIC, payload)
    return BlockHeader.decode(text), body
