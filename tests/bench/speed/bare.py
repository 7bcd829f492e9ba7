"""What there is without Tailkeeper: one ONNX Runtime session with its defaults, fed with one and the same tensor.

python -m tests.bench.speed.bare MODEL THREADS [VIDEO]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np
import onnxruntime as ort

from tests.bench.speed.turns import serve, until


def session(model: str, threads: int) -> ort.InferenceSession:
    """As most people open one, with a number of threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def decoding(opened: ort.InferenceSession, video: str) -> Callable[[], object]:
    """Inference on the frames of a video, again and again: the least that a program with OpenCV does."""
    image = opened.get_inputs()[0]
    captures = [cv2.VideoCapture(video)]

    def step() -> None:
        there, frame = captures[0].read()
        if not there:
            captures[0] = cv2.VideoCapture(video)
            return
        small = cv2.resize(frame, tuple(image.shape[:1:-1]))
        blob = small[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
        opened.run(None, {image.name: blob})

    return step


def main() -> None:
    model, threads, *video = sys.argv[1:]
    opened = session(model, int(threads))
    image = opened.get_inputs()[0]
    blob = np.full((1, 3, *image.shape[2:]), 0.5, np.float32)
    step = decoding(opened, video[0]) if video else lambda: opened.run(None, {image.name: blob})
    step()
    serve(lambda seconds: until(seconds, step))


if __name__ == "__main__":
    main()
