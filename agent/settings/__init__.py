"""The configuration: sections, defaults with their reasons, and where each value came from.

The only package that reads the environment and the config file. Everything else is handed its own frozen section.
Precedence: command line > environment > systemd credentials > fleet's desired config > file > defaults.
"""

from agent.settings.loading import DEFAULT_FILE, Loaded, leaves, load, merge, remote_keys
from agent.settings.schedule import Span, parse_schedule
from agent.settings.sections import (
    BrokerSettings,
    CameraSettings,
    CollectorSettings,
    ControlSettings,
    DeviceSettings,
    HealthSettings,
    ImageSettings,
    ModelSettings,
    RuleSettings,
    SelectionSettings,
    Settings,
    Shares,
    SpoolSettings,
    UplinkSettings,
)
from agent.settings.source import URL, shown_source

__all__ = [
    "DEFAULT_FILE",
    "URL",
    "BrokerSettings",
    "CameraSettings",
    "CollectorSettings",
    "ControlSettings",
    "DeviceSettings",
    "HealthSettings",
    "ImageSettings",
    "Loaded",
    "ModelSettings",
    "RuleSettings",
    "SelectionSettings",
    "Settings",
    "Shares",
    "Span",
    "SpoolSettings",
    "UplinkSettings",
    "leaves",
    "load",
    "merge",
    "parse_schedule",
    "remote_keys",
    "shown_source",
]
