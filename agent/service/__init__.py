"""The device service: its parts, wired; its threads; the order in which they stop. No logic of its own.

parts        the detector and what depends on it, from settings
device       everything together, started and stopped in order
operations   what control may ask of the running device
serving      the process: signals, systemd, safe mode
"""

from agent.service.device import Device
from agent.service.parts import make_parts
from agent.service.serving import serve

__all__ = ["Device", "make_parts", "serve"]
