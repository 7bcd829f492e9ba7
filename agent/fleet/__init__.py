"""The operator's side of the protocol: look at a fleet, change its configuration, command it, roll out to it."""

from agent.fleet.command import send
from agent.fleet.config import Target, differences, get, put
from agent.fleet.link import Link
from agent.fleet.plan import Plan, Stage
from agent.fleet.rollout import Rollout
from agent.fleet.view import Device

__all__ = ["Device", "Link", "Plan", "Rollout", "Stage", "Target", "differences", "get", "put", "send"]
