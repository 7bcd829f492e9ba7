"""Frames from cameras and recordings, whatever they are and however they fail."""

from agent.camera.camera import Camera, Stamper
from agent.camera.cameras import Cameras, open_cameras
from agent.camera.condition import Health, State
from agent.camera.opening import is_live, open_camera

__all__ = [
    "Camera",
    "Cameras",
    "Health",
    "Stamper",
    "State",
    "is_live",
    "open_camera",
    "open_cameras",
]
