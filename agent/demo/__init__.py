"""The demo: everything at once, for a minute."""

from agent.demo.run import DEMO_CONFIG, Summary, run_demo

__all__ = ["DEMO_CONFIG", "Summary", "run_demo"]
