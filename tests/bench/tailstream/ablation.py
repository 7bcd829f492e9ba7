"""What each mechanism of our rule is worth: the same streams with one of them off in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from agent.selection import camera, coverage, scores, still, window
from agent.selection.scores import Evidence, weigh

Off = tuple[object, str, Any]
"""Where, which name, and what stands there while the mechanism is off."""


def _without_kinds(*args: Any, **kwargs: Any) -> Evidence:
    """Served or not is one kind."""
    evidence = weigh(*args, **kwargs)
    kinds = evidence.classes * 2
    return replace(evidence, kinds=kinds, rank=np.tril(kinds[:, None] == kinds, k=-1).sum(axis=1))


def _without_rank(*args: Any, **kwargs: Any) -> Evidence:
    """One object of a kind covers all of them."""
    evidence = weigh(*args, **kwargs)
    return replace(evidence, rank=np.zeros_like(evidence.rank))


MECHANISMS: Mapping[str, tuple[Off, ...]] = {
    "coverage by place": ((coverage, "_SAME_PLACE", 2.0),),
    "coverage by time": ((coverage, "_MOVED_S", 1e-9),),
    "coverage by scene": ((coverage, "_STRANGE", 1.0), (coverage, "_ALIKE", 2.0)),
    "number of a kind (by time)": ((camera, "weigh", _without_rank),),
    "scene cuts (by time)": ((coverage, "_CUT", -2.0),),
    "served or not as kinds": ((camera, "weigh", _without_kinds),),
    "repeated boxes": ((scores, "_AGAIN", 2.0),),
    "steep class weights": ((scores, "_TAIL_SLOPE", 1),),
    "more for errors on rare classes": ((scores, "_RARE_ERROR", 0.0),),
    "something for rare and right": ((scores, "_RARE_SERVED", 0.0),),
    "passing still frames over": ((still.Still, "holds", lambda *_: False),),
    "competing in eight windows": ((window, "_WINDOWS", 1),),
    "all coverage": (
        (coverage, "_SAME_PLACE", 2.0),
        (coverage, "_MOVED_S", 1e-9),
        (coverage, "_STRANGE", 1.0),
        (coverage, "_ALIKE", 2.0),
    ),
}


@contextmanager
def without(mechanism: str) -> Iterator[None]:
    """While this lasts, the mechanism is off."""
    with ExitStack() as stack:
        for where, name, value in MECHANISMS[mechanism]:
            stack.enter_context(patch.object(where, name, value))
        yield


def ablated(mechanism: str, pick: Callable[[float, int], list[int]]) -> Callable[[float, int], list[int]]:
    """The policy without the mechanism."""

    def picks(budget: float, seed: int) -> list[int]:
        with without(mechanism):
            return pick(budget, seed)

    return picks
