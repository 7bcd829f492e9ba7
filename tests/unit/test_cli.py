"""The commands: each documented, each with help, and everything else on standard error."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import _parser, main

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and sub-command, as words."""
    for action in parser._actions:  # argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield (*path, name)
                yield from commands(child, (*path, name))


@pytest.mark.parametrize("path", sorted(commands(_parser())), ids=" ".join)
def test_every_command_is_in_the_readme_and_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `tailkeeper ")]
    line = next((row for row in rows if re.search(rf"(?:`tailkeeper |, `){path[0]}\b", row)), "")
    assert line, f"tailkeeper {path[0]} is not in the README"
    if len(path) == 2:
        assert path[1] in line, f"tailkeeper {' '.join(path)} is not in the README"
    with pytest.raises(SystemExit) as left:
        main([*path, "--help"])
    assert left.value.code == 0
    assert "usage: tailkeeper" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("tailkeeper ")


def test_effective_values_come_with_their_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[broker]\nhost = "h"\npassword = "s3cret"\n')
    assert main(["config", "show", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert f'broker.host = "h"  # {path}' in out
    assert "selection.budget = 0.02  # default" in out
    assert "s3cret" not in out
