"""Contact sheets: small pictures inside the page, with the model's boxes and those that people drew over them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from agent.collector import image_path, read_label, read_meta
from agent.errors import ItemError
from agent.records import Image

WIDTH = 320
"""Pixels: sharp on a phone, two beside each other."""
_QUALITY = 62
Box: TypeAlias = tuple[tuple[float, float, float, float], str]
"""Corners in pixels of the stored picture, and what is there."""


def tile(store: Path, row: Mapping[str, Any], when: str) -> str:
    """A candidate as a figure: picture, boxes, lane's score and reason. Empty where its files cannot be read."""
    meta = read_meta(store, row["cid"])
    picture = _picture(store / image_path(row["cid"]))
    if meta is None or picture is None:
        return ""
    served = [(row.xyxy, f"{row.name} {row.conf:.0%}") for row in meta.detections if row.served]
    boxes = _boxes(served, "served") + _boxes(_drawn(store, row), "drawn")
    why = meta.reasons[0] if meta.reasons else f"score {row['score']:.2f}"
    place, width, height = escape(f"{row['device']} / {row['camera']}"), meta.image.w, meta.image.h
    source = _embedded(picture)
    return (
        '<figure class="tile"><div class="picture">'
        f'<img alt="{row["lane"]} candidate of {place}" width="{width}" height="{height}" src="{source}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{boxes}</svg></div>'
        f"<figcaption><b>{escape(why)}</b><span>{place}</span><time>{escape(when)}</time></figcaption></figure>"
    )


def _picture(path: Path) -> Image | None:
    try:
        found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if found is None else np.asarray(found, np.uint8)


def _drawn(store: Path, row: Mapping[str, Any]) -> list[Box]:
    """What people drew, where their label stands."""
    if not row["revision"]:
        return []
    try:
        return [(box.xyxy, f"{box.name}, drawn") for box in read_label(store, row["cid"], row["revision"]).boxes]
    except ItemError:
        return []


def _boxes(found: Iterable[Box], kind: str) -> str:
    return "".join(
        f'<rect class="{kind}" x="{x1:.0f}" y="{y1:.0f}" width="{max(x2 - x1, 0):.0f}" '
        f'height="{max(y2 - y1, 0):.0f}"><title>{escape(words)}</title></rect>'
        for (x1, y1, x2, y2), words in found
    )


def _embedded(picture: Image) -> str:
    """A small JPEG as an address that needs no request."""
    height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")
