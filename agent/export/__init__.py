"""Workstation only: training of the demo model, export of checkpoints, bundles. Needs the `export` extra."""
