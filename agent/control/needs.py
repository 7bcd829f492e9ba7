"""The fleet's need map: class weights from the live training set, for all devices and for a group."""

from __future__ import annotations

from pathlib import Path

from agent import durable
from agent.wire import NeedMap

_LAYOUT = 1


class Needs:
    """The newest need map of each level, kept in one file; used by one thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            state = durable.load_state(file, _LAYOUT) or {}
            self._maps = {level: NeedMap.model_validate(found) for level, found in state.get("maps", {}).items()}
        except (ValueError, AttributeError):
            self._maps = {}

    @property
    def weights(self) -> dict[str, float]:
        """Weight per class name: a group's (and the device's own) over everybody's."""
        merged: dict[str, float] = {}
        for level in sorted(self._maps, key=lambda level: (level != "all", level == "device", level)):
            merged.update(self._maps[level].weights)
        return merged

    def offer(self, level: str, needs: NeedMap) -> bool:
        """Take a newer map; False where it is not. Raises OSError."""
        known = self._maps.get(level)
        if known and needs.version <= known.version:
            return False
        maps = {**self._maps, level: needs}
        durable.save_state(self._file, _LAYOUT, {"maps": {name: one.model_dump() for name, one in maps.items()}})
        self._maps = maps
        return True
