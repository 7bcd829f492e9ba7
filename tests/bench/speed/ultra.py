"""Ultralytics' own `predict` on the same file, as its documentation says for streams; run by another interpreter.

python -m tests.bench.speed.ultra MODEL VIDEO
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tests.bench.speed.turns import serve, until


def results(model: str, video: str) -> Iterator[Any]:
    from ultralytics import YOLO

    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # beside a PyTorch of another build; an end-to-end model needs none of its operators
        sys.modules["torchvision"] = ModuleType("torchvision")
    yolo = YOLO(model, task="detect")
    while True:
        yield from yolo.predict(video, stream=True, verbose=False)


def main() -> None:
    stream = results(sys.argv[1], sys.argv[2])
    next(stream)
    serve(lambda seconds: until(seconds, lambda: next(stream)))


if __name__ == "__main__":
    main()
