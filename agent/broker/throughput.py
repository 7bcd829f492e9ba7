"""How fast the link is, and so how much may be under way on it."""

from __future__ import annotations

from collections import deque

FIRST_RATE = 32_768.0
"""Bytes per second assumed of an unknown link: one packet at a time until the first is acknowledged."""
WINDOW_PACKETS = 8
WINDOW_BYTES = 262_144
WINDOW_S = 2.0
"""What is under way takes about this long, so an urgent message never waits much longer behind it."""


class Throughput:
    """Bytes per second that the link carries: the best of the last samples, each from sending to acknowledgement.

    As in BBR (Cardwell et al., ACM Queue 14(5), 2016): what was acknowledged while one packet was under way, over
    the time that took. The best, because a sample is too low whenever there was too little to send.
    """

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=8)
        self.acknowledged = 0
        """Bytes acknowledged so far: remembered when a packet starts and given back to `learn`."""

    @property
    def rate(self) -> float:
        return max(self._samples, default=FIRST_RATE)

    @property
    def window(self) -> float:
        """Bytes that may be under way."""
        return min(WINDOW_BYTES, self.rate * WINDOW_S)

    def learn(self, size: int, elapsed_ns: int, before: int) -> None:
        """A packet of `size` bytes was acknowledged; `before` is `acknowledged` when it was started."""
        self.acknowledged += size
        self._samples.append((self.acknowledged - before) * 1e9 / max(elapsed_ns, 1_000))

    def halve(self) -> None:
        """The link broke down with packets under way."""
        rate = self.rate / 2
        self._samples.clear()
        self._samples.append(rate)
