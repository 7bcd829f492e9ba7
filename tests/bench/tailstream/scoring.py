"""What a set of picks is worth: distinct errors found for the labelling budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.tailstream.errors import Verdict


@dataclass(frozen=True, slots=True)
class Score:
    """Of one policy on one stream at one budget; shares of 1."""

    uer: float
    """Distinct error instances captured, of all in the stream."""
    utm: float
    """The same for errors of tail classes: the headline."""
    utr: float
    """Distinct tail instances captured, right or wrong."""
    per_box: float
    """Distinct errors found per labelled box."""
    spent: float
    """Picks, of the budget's number of frames."""
    duplicates: float
    """Picks that show no error and no tail object which earlier ones did not."""

    @property
    def harmonic(self) -> float:
        """Harmonic mean of UER and UTM."""
        return 2 * self.uer * self.utm / (self.uer + self.utm) if self.uer + self.utm else 0.0


def score(verdicts: Sequence[Verdict], picks: Sequence[int], budget: float) -> Score:
    """Judge the picks (frame indices in the order of picking)."""
    every = _union(verdicts, range(len(verdicts)))
    found: set[int] = set()
    repeated = 0
    for index in picks:
        new = (verdicts[index].errors | verdicts[index].tail) - found
        repeated += not new
        found |= new
    got = _union(verdicts, picks)
    boxes = sum(verdicts[index].objects for index in picks)
    return Score(
        uer=len(got[0]) / max(1, len(every[0])),
        utm=len(got[1]) / max(1, len(every[1])),
        utr=len(got[2]) / max(1, len(every[2])),
        per_box=len(got[0]) / max(1, boxes),
        spent=len(picks) / (budget * len(verdicts)),
        duplicates=repeated / max(1, len(picks)),
    )


def _union(verdicts: Sequence[Verdict], picks: Sequence[int] | range) -> tuple[set[int], set[int], set[int]]:
    errors, tail_errors, tail = set[int](), set[int](), set[int]()
    for index in picks:
        errors |= verdicts[index].errors
        tail_errors |= verdicts[index].tail_errors
        tail |= verdicts[index].tail
    return errors, tail_errors, tail
