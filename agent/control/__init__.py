"""Loop 3: desired configuration and commands -> validated change -> reported."""

from agent.control.desired import Desired
from agent.control.loop import Control
from agent.control.ops import Ops
from agent.control.rehearsal import rehearse

__all__ = ["Control", "Desired", "Ops", "rehearse"]
