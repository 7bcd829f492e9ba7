"""Weekly schedules."""

from __future__ import annotations

import pytest

from agent.settings import parse_schedule

MON, FRI, SAT, SUN = 0, 4, 5, 6


def covers(text: str, weekday: int, clock: str) -> bool:
    hour, minute = clock.split(":")
    return any(span.covers(weekday, int(hour) * 60 + int(minute)) for span in parse_schedule(text))


@pytest.mark.parametrize(
    ("text", "weekday", "clock", "expected"),
    [
        ("Mon-Fri 06:00-20:00", MON, "06:00", True),
        ("Mon-Fri 06:00-20:00", MON, "20:00", False),
        ("Mon-Fri 06:00-20:00", SAT, "12:00", False),
        ("06:00-20:00", SUN, "12:00", True),
        ("Fri 22:00-05:00", SAT, "04:59", True),
        ("Fri 22:00-05:00", FRI, "04:59", False),
        ("Sun 22:00-05:00", MON, "01:00", True),
        ("Sat-Mon 08:00-09:00", SUN, "08:30", True),
        ("Mon 00:00-24:00", MON, "23:59", True),
        ("Mon 06:00-07:00, Sat 08:00-12:00", SAT, "09:00", True),
    ],
)
def test_a_span_covers_its_minutes(text: str, weekday: int, clock: str, expected: bool) -> None:
    assert covers(text, weekday, clock) is expected


def test_an_empty_schedule_has_no_spans() -> None:
    assert parse_schedule("") == ()


@pytest.mark.parametrize(
    "text",
    ["all day", "Mon 6:00-7:00", "Mon 06:00-06:00", "25:00-26:00", "Mon-Xyz 06:00-07:00", "00:00-24:30"],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_schedule(text)
