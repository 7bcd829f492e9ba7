"""Loop 2: spool -> broker -> receipt; retry, back-off, quarantine. It never knows cameras.

The states of an item, as the spool's index keeps them:

    READY -> SENDING      claimed, parts handed to the broker
    SENDING -> SENT       the broker accepted every part
    SENT -> forgotten     receipt: stored or duplicate; nothing else lets an item go
    SENDING -> READY      disconnected
    SENT -> READY         no receipt: the collector is asked first, and says unknown or nothing at all
    SENT -> SENDING       receipt: partial
    any -> QUARANTINE     receipt: rejected; refused for good; too large; three disconnects blamed on it
"""

from agent.uplink.loop import ROWS, Uplink

__all__ = ["ROWS", "Uplink"]
