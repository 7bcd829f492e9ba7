"""The fixed camera: where a point of the street lies in the picture."""

from __future__ import annotations

WIDTH, HEIGHT = 640, 360
PAD = 6
"""Margin drawn around the picture, so that a shaking camera never sees past the edge (px)."""
HORIZON = 40.0
"""Row of the horizon (px)."""
CAMERA_HEIGHT = 5.8
"""Height of the camera above the street (m)."""
FOCAL = 420.0
"""Focal length (px)."""

FAR_WALK = (197.0, 208.0)
FAR_PARKING = 223.0
FAR_LANE = 249.0
FAR_EDGE = 233.0
NEAR_LANE = 284.0
NEAR_EDGE = 302.0
NEAR_WALK = (320.0, 348.0)
"""Rows (px) on which feet and wheels stand, from the far pavement to the near one."""
WALL = 190.0
"""Row of the foot of the buildings."""


def scale(row: float) -> float:
    """Pixels per metre for something that stands on this row of the picture."""
    return (row - HORIZON) / CAMERA_HEIGHT


def distance(row: float) -> float:
    """Distance from the camera (m) of the ground seen on this row."""
    return FOCAL * CAMERA_HEIGHT / (row - HORIZON)
