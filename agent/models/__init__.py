"""The model store of a device: verify, stage, try, activate, watch, roll back; and the keys that sign bundles.

It never runs a model nor talks MQTT: a function that tries a model and one that fetches a block are given to it.
"""

from agent.models.download import HTTP_BLOCK, MQTT_BLOCK, Download, Fetch, http_fetch
from agent.models.drift import Pulse, judge
from agent.models.rollout import Rollout, Runtime, Step
from agent.models.signing import keygen, sign, verify
from agent.models.store import ModelStore, Outcome, Pointer, Trial

__all__ = [
    "HTTP_BLOCK",
    "MQTT_BLOCK",
    "Download",
    "Fetch",
    "ModelStore",
    "Outcome",
    "Pointer",
    "Pulse",
    "Rollout",
    "Runtime",
    "Step",
    "Trial",
    "http_fetch",
    "judge",
    "keygen",
    "sign",
    "verify",
]
