"""Who writes and reads what: ``{prefix}/{device}/up/...`` and ``{prefix}/{device}/dn/...``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.errors import WireError

DEVICE = r"^[A-Za-z0-9_-]{1,64}$"
"""Device ids, group names and command ids: safe as one level of a topic and as part of a file name."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device under a prefix; `device` may also be ``_all``, ``_g_<group>`` or ``+``."""

    prefix: str
    device: str

    def up(self, *levels: str) -> str:
        """A topic that the device writes, e.g. ``up("cmd", cmd_id)``."""
        return "/".join((self.prefix, self.device, "up", *levels))

    def dn(self, *levels: str) -> str:
        """A topic that the device reads."""
        return "/".join((self.prefix, self.device, "dn", *levels))

    @property
    def status(self) -> str:
        return self.up("status")

    @property
    def candidate(self) -> str:
        return self.up("c")

    @property
    def query(self) -> str:
        return self.up("q")

    @property
    def ack(self) -> str:
        return self.dn("ack")

    @staticmethod
    def parse(prefix: str, topic: str) -> tuple[Topics, tuple[str, ...]]:
        """Whose topic it is and its levels after the device, e.g. ``("up", "c")``. Raises WireError."""
        device, *levels = topic.removeprefix(prefix + "/").split("/")
        if not topic.startswith(prefix + "/") or not levels or not re.fullmatch(DEVICE, device):
            raise WireError(f"topic {topic[:200]!r}", remedy=f"topics look like {prefix}/<device>/up/...")
        return Topics(prefix, device), tuple(levels)
