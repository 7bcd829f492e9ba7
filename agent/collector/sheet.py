"""A contact sheet: the newest candidates of a store in one JPEG, with boxes, lane and score, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agent.collector.store import read_meta
from agent.records import Image

TILE_W, TILE_H, CAPTION = 320, 200, 22
COLUMNS = 4
TILES = 40
LANE_COLOURS = {
    "uncertain": (60, 170, 255),
    "rare": (90, 90, 255),
    "canary": (110, 210, 110),
    "temporal": (255, 170, 80),
    "rule": (220, 120, 220),
    "manual": (230, 230, 230),
}
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheet(store: Path, rows: Sequence[Mapping[str, Any]], out: Path) -> bool:
    """Draw up to `TILES` candidates, evenly spread over `rows` (as `listing` gives them), into the JPEG `out`.

    Returns False, and writes nothing, where no candidate can be shown.
    """
    step = max(1.0, len(rows) / TILES)
    chosen = [rows[int(i * step)] for i in range(min(TILES, len(rows)))]
    tiles = [tile for tile in (_tile(store, row) for row in chosen) if tile is not None]
    if not tiles:
        return False
    columns = min(COLUMNS, len(tiles))
    tiles += [np.full_like(tiles[0], 24)] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
    return bool(cv2.imwrite(str(out), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88]))


def _tile(store: Path, row: Mapping[str, Any]) -> Image | None:
    image = cv2.imread(str(store / str(row["path"])), cv2.IMREAD_COLOR)
    if image is None:
        return None
    meta = read_meta(store, str(row["cid"]))
    scale = min(TILE_W / image.shape[1], (TILE_H - CAPTION) / image.shape[0])
    small = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    for detection in meta.detections if meta else ():
        if detection.served:
            _draw(small, detection.name, detection.conf, np.array(detection.xyxy) * scale)
    return _captioned(small, row)


def _draw(image: Image, name: str, conf: float, box: np.ndarray[Any, Any]) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), (80, 230, 250), 1, cv2.LINE_AA)
    cv2.putText(image, f"{name} {conf:.2f}", (x1, max(9, y1 - 3)), _FONT, 0.33, (80, 230, 250), 1, cv2.LINE_AA)


def _captioned(image: Image, row: Mapping[str, Any]) -> Image:
    tile: Image = np.full((TILE_H, TILE_W, 3), 24, np.uint8)
    height, width = image.shape[:2]
    left, top = (TILE_W - width) // 2, CAPTION
    tile[top : top + height, left : left + width] = image[: TILE_H - CAPTION]
    lane = str(row["lane"])
    cv2.rectangle(tile, (0, 0), (6, CAPTION - 1), LANE_COLOURS.get(lane, (200, 200, 200)), cv2.FILLED)
    caption = f"{lane} {float(row['score']):.2f}  {row['camera']}  {row['ts']}"
    cv2.putText(tile, caption, (12, 15), _FONT, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
    return tile
