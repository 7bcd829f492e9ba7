"""Weekly schedules such as ``Mon-Fri 06:00-20:00``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"^(?:([A-Za-z]{3})(?:-([A-Za-z]{3}))?\s+)?([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$")


@dataclass(frozen=True, slots=True)
class Span:
    """A weekly recurring span of local time: week days (0 = Monday) and minutes of the day [start, end)."""

    days: frozenset[int]
    start: int
    end: int

    def covers(self, weekday: int, minute: int) -> bool:
        """Whether the span holds this minute; one that ends before it starts goes on over midnight."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        if minute >= self.start:
            return weekday in self.days
        return minute < self.end and (weekday - 1) % 7 in self.days


def parse_schedule(text: str) -> tuple[Span, ...]:
    """Spans of ``"Mon-Fri 06:00-20:00, Sat 08:00-12:00"``; no days means every day. Raises ValueError."""
    return tuple(_parse_span(part.strip()) for part in text.split(",") if part.strip())


def _parse_span(text: str) -> Span:
    match = _SPAN.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a span of time; write it like 'Mon-Fri 06:00-20:00' or '22:00-05:00'")
    first, last, *clock = match.groups()
    start, end = (int(clock[i]) * 60 + int(clock[i + 1]) for i in (0, 2))
    if end > 24 * 60 or start == end:
        raise ValueError(f"{text!r} covers no time; the end lies between 00:01 and 24:00 and differs from the start")
    if first is None:
        return Span(frozenset(range(7)), start, end)
    for day in (first, last or first):
        if day.lower() not in _DAYS:
            raise ValueError(f"{day!r} is not a day; use {', '.join(name.title() for name in _DAYS)}")
    begin, stop = _DAYS.index(first.lower()), _DAYS.index((last or first).lower())
    return Span(frozenset((begin + i) % 7 for i in range((stop - begin) % 7 + 1)), start, end)
