"""Speed and footprint of the agent, next to the bare inference and to Ultralytics: `make bench-speed`.

Whoever is compared is a process of its own and works in turns of a few seconds, so that all of them see the same
machine: a rate is compared only with rates of the same run.
"""
