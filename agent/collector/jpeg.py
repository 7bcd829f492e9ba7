"""Is it a picture, and the one its metadata speaks of? Judged before decoding and by it."""

from __future__ import annotations

import cv2
import numpy as np

from agent.errors import WireError

PIXEL_LIMIT = 50_000_000
"""Declared pixels that are decoded at all (8K has 33 million): a small file can claim 65,535 x 65,535, and decoding a
progressive one takes six bytes each."""
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Start-of-frame markers of the kinds of JPEG that there are in the wild: baseline, extended, progressive."""
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def check_jpeg(image: bytes, width: int, height: int) -> None:
    """Raise WireError unless `image` is a whole JPEG of `width` x `height` pixels that can be decoded.

    It is decoded at an eighth of its size: that reads every coefficient and leaves the costly rest out.
    """
    if not image.endswith(b"\xff\xd9"):
        raise WireError("the image does not end as a JPEG does")
    declared = declared_size(image)
    if declared != (width, height):
        raise WireError(f"the image declares {declared[0]} x {declared[1]} pixels, its metadata {width} x {height}")
    if width * height > PIXEL_LIMIT:
        raise WireError(f"the image declares {width * height} pixels", remedy=f"at most {PIXEL_LIMIT}")
    try:
        small = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    except cv2.error as error:
        raise WireError(f"the image cannot be decoded: {error.err}") from None
    if small is None:
        raise WireError("the image cannot be decoded")


def declared_size(image: bytes) -> tuple[int, int]:
    """Width and height from the frame header (ITU T.81, B.2.2), without decoding. Raises WireError."""
    if image[:2] != b"\xff\xd8":
        raise WireError("the image does not begin as a JPEG does")
    at = 2
    while at + 9 <= len(image) and image[at] == 0xFF:
        marker = image[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
        elif marker in _FRAMES:
            return int.from_bytes(image[at + 7 : at + 9], "big"), int.from_bytes(image[at + 5 : at + 7], "big")
        else:
            at += 2 + max(int.from_bytes(image[at + 2 : at + 4], "big"), 2)
    raise WireError("the image has no frame header")
