"""Which frames are worth a human's time: pure, given frames and rows in order, a seed and last time's state.

scores    rows -> evidence per object: chance of an error, tail worth
gates     frames no human should see
coverage  what selected frames show already
window    best of a stretch of time, greedy by marginal gain
budgets   what may be spent: lanes, days
selector  the whole, per camera
"""

from agent.selection.selector import Selector

__all__ = ["Selector"]
