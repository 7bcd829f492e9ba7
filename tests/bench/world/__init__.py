"""What the demo world and its model can do, measured. Run as `python -m tests.bench.world.<name>`."""
