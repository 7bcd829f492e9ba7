"""The MQTT connection: MQTT 5 first, 3.1.1 where there is no more; will, status, window, back-off. The only paho user.

One owner thread drives paho's socket and runs its callbacks; everybody else puts into a queue and is told through a
future. Each connection gets a paho client of its own: paho keeps unacknowledged messages in memory and would send all
of them again after a reconnect, but what is sent again is for the spool to decide.
"""

from agent.broker.connection import RECEIVE_MAXIMUM, Broker
from agent.broker.events import ConnectionCounter, Delivery, Down, Handler, Listener, Message, Presence, Up
from agent.broker.throughput import WINDOW_BYTES, WINDOW_PACKETS, Throughput

__all__ = [
    "RECEIVE_MAXIMUM",
    "WINDOW_BYTES",
    "WINDOW_PACKETS",
    "Broker",
    "ConnectionCounter",
    "Delivery",
    "Down",
    "Handler",
    "Listener",
    "Message",
    "Presence",
    "Throughput",
    "Up",
]
