"""Soak: device and collector as processes, while cameras, broker, collector and configuration are troubled.

    python -m tests.bench.soak --minutes 60 --seed 1 --samples out/soak.jsonl

A year on a pole, accelerated. A round is every event of `events.DECK` in random order; then all must heal by itself,
and only then memory, descriptors and threads are looked at, so that rounds can be compared. Nothing may be lost, and
nothing may grow. In the first sixth the collector is killed and the device made anew in every round; from then on they
live on, because what leaks in the life of a device is gone with the next one. The first half is warm-up: memories of
bounded size fill for ten minutes. Prints JSON; exits 1 where a promise is broken, and `--leak 5` shows that it does.
"""
