"""What is measured runs as it is shipped."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def shipped_environment(unit: str) -> dict[str, str]:
    """What the shipped unit sets, except for a home that is not here."""
    lines = (REPOSITORY / "deploy" / unit).read_text("utf-8").splitlines()
    values = next(line for line in lines if line.startswith("Environment=")).partition("=")[2].split()
    return {name: value for name, _, value in (pair.partition("=") for pair in values) if name != "HOME"}
