"""How much of everything the benchmark does."""

from __future__ import annotations

from dataclasses import dataclass

SELF, RANDOM, OURS, ALL = "self", "random", "tailkeeper", "all"
ARMS = (OURS, RANDOM, SELF, ALL)
"""In the order of the work: the random arm draws as many labels as ours got."""
ARM_NAMES = {
    SELF: "self-labelled only",
    RANDOM: "random frames, human truth",
    OURS: "Tailkeeper's candidates, human truth",
    ALL: "all frames, human truth",
}
STREETS, HELD_OUT = 5000, 2100
"""First seeds of the streets that are watched and of those that are judged on; the base set begins at 1000."""


@dataclass(frozen=True)
class Plan:
    """Sizes; the defaults cost about an hour of one core."""

    rounds: int = 3
    repetitions: int = 2
    cameras: int = 4
    """New streets watched per round."""
    frames: int = 400
    """Considered frames of each, two a second."""
    budget: float = 0.05
    """Share of frames for a human, ours."""
    base_streets: int = 12
    """Of 40 labelled moments each, classes by their natural, long-tailed frequency."""
    start_pieces: int = 3
    start_views: int = 2400
    """Images seen in each piece of the start's training, which begins with random weights."""
    start_rate: float = 0.002
    start_fall: float = 0.0004
    """By how much the learning rate falls in each piece."""
    views: int = 800
    """Images seen in one retraining (batches of 16)."""
    rate: float = 0.001
    """Learning rate at the beginning; it falls to a fiftieth in a straight line."""
    held_out_streets: int = 18
    held_out_frames: int = 35

    def street(self, repetition: int, turn: int, camera: int) -> int:
        """Seed of a street that is watched in a round and never again."""
        return STREETS + (repetition * self.rounds + turn) * self.cameras + camera
