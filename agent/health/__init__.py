"""How the agent is: counters, latencies, the device's sensors, the watchdog, crash loops, metrics and logs.

Nothing here acts on cameras or the network: what it needs to know is handed in as callables. Besides `settings` this is
the only package that reads the environment, and only the variables that systemd sets for its services.
"""

from agent.health.counters import Counters, Latencies, Pulse
from agent.health.crashes import CrashLoop
from agent.health.logs import recent_events, set_level, setup_logging
from agent.health.metrics import Health, keep_prometheus, prometheus_text, write_prometheus
from agent.health.restraint import Restraint
from agent.health.sensors import Sensors
from agent.health.status import answering, ask
from agent.health.watchdog import Check, Notifier, Watchdog, frame_patience, frames_flow, progresses

__all__ = [
    "Check",
    "Counters",
    "CrashLoop",
    "Health",
    "Latencies",
    "Notifier",
    "Pulse",
    "Restraint",
    "Sensors",
    "Watchdog",
    "answering",
    "ask",
    "frame_patience",
    "frames_flow",
    "keep_prometheus",
    "progresses",
    "prometheus_text",
    "recent_events",
    "set_level",
    "setup_logging",
    "write_prometheus",
]
