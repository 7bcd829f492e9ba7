"""The page: each section as HTML from the facts. The frame and the looks are `page.html` and `style.css`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from itertools import zip_longest
from pathlib import Path
from string import Template

from agent.dataset.report import accuracy
from agent.dataset.report.draw import bar, columns, interval, legend, number, ribbon, table
from agent.dataset.report.facts import Axis, Facts, by_step, captured
from agent.dataset.report.pictures import tile
from agent.records import LANES
from agent.selection.canary import Estimate

_HERE = Path(__file__).parent
_CLASSES, _ROWS = 40, 20
"""Classes, and lines of a table with one for each camera, that are shown; the others are counted."""
_VERDICTS = {"useful": "useful", "nothing": "nothing there", "duplicate": "like another", "junk": "no picture to learn"}
_WAITING = ("unlabelled", "exported", "partial", "conflict")
_PEOPLE = 6
"""Colours for people; the others share one."""


def page(facts: Facts | None, store: Path, trained: Mapping[str, int] | None, now: datetime) -> str:
    """The whole document. `trained`: labelled objects by class in the model's training set, where that is known."""
    sections = [_empty()] if facts is None else _sections(facts, store, trained)
    span = "nothing has arrived yet"
    if facts:
        last = facts.axis.start + (facts.axis.bins - 1) * facts.axis.step
        span = " to ".join(dict.fromkeys(f"{at:%d %b %Y}" for at in (facts.axis.start, last)))
    return Template((_HERE / "page.html").read_text("utf-8")).substitute(
        style=(_HERE / "style.css").read_text("utf-8"),
        span=escape(span),
        made=f"{now:%d %b %Y, %H:%M} UTC",
        content="\n".join(sections),
    )


def _empty() -> str:
    return _section("Nothing here yet", "<p>This store holds no candidates. They come when a device uploads some.</p>")


def _sections(facts: Facts, store: Path, trained: Mapping[str, int] | None) -> list[str]:
    return [
        _figures(facts),
        _arrivals(facts),
        _pictures(facts, store),
        _classes(facts, trained),
        _errors(facts),
        _drift(facts),
        _labelling(facts),
        _budget(facts),
        _devices(facts),
    ]


def _section(title: str, body: str, lead: str = "") -> str:
    text = f'<p class="lead">{lead}</p>' if lead else ""
    return f"<section><h2>{escape(title)}</h2>{text}{body}</section>"


def _ticks(axis: Axis) -> list[str]:
    marks = sorted({0, axis.bins // 2, axis.bins - 1})
    return [axis.label(i) for i in marks]


def _figures(facts: Facts) -> str:
    """The numbers on top."""
    looked = accuracy.considered(facts.canaries)
    errors = accuracy.error_rate(facts.canaries)
    said = sum(n for state, n in facts.states.items() if state not in _WAITING)
    devices = len({device for device, _ in facts.cameras})
    cards = [
        (_many(facts.candidates, "candidate"), number(facts.candidates), f"{facts.bytes / 1e6:.1f} MB"),
        (_many(len(facts.cameras), "camera"), number(len(facts.cameras)), f"on {devices} {_many(devices, 'device')}"),
        ("frames looked at", f"≈ {number(round(looked))}" if looked else "unknown", _kept(facts)),
        ("labelled by people", number(said), f"{number(facts.candidates - said)} wait"),
        ("errors a frame", f"{errors.mean:.2f}" if errors else "unknown", _margin(errors)),
    ]
    items = "".join(f"<li><b>{value}</b><span>{name}</span><small>{note}</small></li>" for name, value, note in cards)
    return f'<ul class="cards">{items}</ul>'


def _cameras(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cameras, those that matter most first."""
    more = len(rows) - _ROWS
    return table(head, rows[:_ROWS]) + (f"<p>{number(more)} more are not shown.</p>" if more > 0 else "")


def _many(count: int, name: str) -> str:
    return name if count == 1 else f"{name}s"


def _kept(facts: Facts) -> str:
    looked = accuracy.considered(facts.canaries)
    return f"{facts.candidates / looked:.1%} of them kept" if looked else "no canary draws"


def _margin(errors: Estimate | None) -> str:
    return f"95 %: {max(errors.low, 0):.2f} to {errors.high:.2f}" if errors else "no labelled canary draws"


def _arrivals(facts: Facts) -> str:
    lanes: dict[str, list[int]] = {lane: facts.lanes[lane] for lane in LANES if lane in facts.lanes}
    tips = [facts.axis.label(i) for i in range(facts.axis.bins)]
    totals: dict[str, str] = {lane: f"{lane} {number(sum(steps))}" for lane, steps in lanes.items()}
    words = f"Candidates over time by lane: {', '.join(totals.values())}"
    body = legend(totals) + columns(lanes, _ticks(facts.axis), words, tips)
    return _section("What arrived", body, "Candidates by the time they were taken, and the lane that picked them.")


def _pictures(facts: Facts, store: Path) -> str:
    parts = []
    for lane in LANES:
        rows = facts.pictures.get(lane, ())
        tiles = "".join(tile(store, row, f"{captured(row):%d %b %H:%M}") for row in rows)
        if tiles:
            total = number(sum(facts.lanes[lane]))
            parts.append(
                f'<h3><i class="{lane}"></i>{lane} <small>{total}</small></h3><div class="sheet">{tiles}</div>'
            )
    lead = "A few of each lane, evenly over time. Solid boxes are what the model served, dashed ones what people drew."
    return _section("Contact sheets", "".join(parts), lead)


def _classes(facts: Facts, trained: Mapping[str, int] | None) -> str:
    known = trained or {}
    names = set(facts.served) | set(facts.drawn) | set(known)
    order = sorted(names, key=lambda name: (-facts.drawn[name], -facts.served[name], -known.get(name, 0), name))
    lead = "Objects per class, on a logarithmic scale. "
    if trained:
        lead += "Before: in the set that the model was trained on. After: with what people have drawn since."
        kind, counts, key = "before", known, {"before": "trained on", "drawn": "drawn by people"}
    else:
        lead += "What the model was trained on is not known here: name it with <code>--model</code>."
        kind, counts, key = "guessed", facts.served, {"guessed": "served by the model", "drawn": "drawn by people"}
    top = math.log1p(max([1, *counts.values(), *facts.drawn.values()]))
    rows = [_class(name, kind, (counts.get(name, 0), facts.drawn[name]), top) for name in order[:_CLASSES]]
    left = f"<p>{len(order) - _CLASSES} more classes are not shown.</p>" if len(order) > _CLASSES else ""
    return _section("Classes", f'{legend(key)}<ul class="classes">{"".join(rows)}</ul>{left}', lead)


def _class(name: str, kind: str, counts: tuple[int, int], top: float) -> str:
    """One class: a bar for each of the two counts, `top` being the logarithm of the longest; and what was added."""
    first, drawn = counts
    bars = "".join(
        bar({colour: math.log1p(count) / top}, f"{name}: {count} {colour}")
        for colour, count in ((kind, first), ("drawn", drawn))
    )
    text, growth = number(drawn), ""
    if kind == "before":
        text = f"{number(first)} + {number(drawn)}"
        growth = "" if not drawn else _growth(drawn / first) if first else "new"
    return (
        f'<li><b>{escape(name)}</b><span class="bars">{bars}</span><span class="count">{text}</span>'
        f'<span class="growth">{growth}</span></li>'
    )


def _growth(share: float) -> str:
    return f"+{share:.1%}" if share >= 0.001 else "&lt; 0.1%"


def _errors(facts: Facts) -> str:
    canaries = facts.canaries
    checked = [canary for canary in canaries if canary.errors is not None]
    overall = accuracy.error_rate(canaries)
    title = "How often the model errs"
    if overall is None:
        lead = (
            f"Unknown: {number(len(checked))} of {number(len(canaries))} canary draws have a human label, and two at "
            "least are needed. Export the canary lane to your labelling tool, and import what people say."
        )
        return _section(title, "", lead)
    missed = sum(canary.missed or 0 for canary in checked)
    wrong = sum(canary.wrong or 0 for canary in checked)
    lead = (
        f"{interval(overall)} errors a frame, over all frames that the cameras looked at: canary draws are random, "
        f"and each counts by one over its chance. {number(len(checked))} of {number(len(canaries))} draws have a "
        f"label that counts ({number(missed)} {_many(missed, 'object')} missed, {number(wrong)} wrong); it is "
        "assumed that the others are no different."
    )
    if facts.unread:
        lead += f" {number(facts.unread)} labelled {_many(facts.unread, 'draw')} could not be read."
    words = f"Errors per frame over time; overall {interval(overall)}"
    body = ribbon([accuracy.error_rate(step) for step in _spread(facts)], overall, _ticks(facts.axis), words)
    return _section(title, body, lead)


def _spread(facts: Facts) -> list[list[accuracy.Canary]]:
    """Canary draws by steps of time that are wide enough for each to say something."""
    steps = list(by_step(facts, facts.canaries))
    while len(steps) > 1 and any(0 < sum(c.errors is not None for c in step) < accuracy.ENOUGH for step in steps):
        steps = [[*one, *other] for one, other in zip_longest(steps[::2], steps[1::2], fillvalue=())]
    return steps


def _drift(facts: Facts) -> str:
    found = [
        (not change.sure, *key, measure, change)
        for key, camera in facts.cameras.items()
        for measure, change in accuracy.changes(camera.canaries).items()
    ]
    rows = [
        (
            escape(f"{device} / {name}"),
            "as before" if same else '<b class="alert">changed</b>',
            measure,
            *(f"{each.mean:.2f}" for each in (change.then, change.now)),
        )
        for same, device, name, measure, change in sorted(found, key=lambda each: each[:4])
    ]
    lead = (
        "Per frame, from canary draws alone: the first three quarters against the last. Changed means three standard "
        "errors apart."
    )
    if not rows:
        return _section("Drift", "<p>No camera has enough canary draws yet to tell then from now.</p>", lead)
    return _section("Drift", _cameras(("camera", "", "measure", "then", "now"), rows), lead)


def _labelling(facts: Facts) -> str:
    parts = [_states(facts)]
    if facts.label_axis and facts.people:
        axis = facts.label_axis
        people = sorted(facts.people.items(), key=lambda item: (-sum(item[1]), item[0]))
        series = {f"p{i}": steps for i, (_, steps) in enumerate(people[:_PEOPLE])}
        if rest := people[_PEOPLE:]:
            series[f"p{_PEOPLE}"] = [sum(step) for step in zip(*(steps for _, steps in rest), strict=True)]
        names = [name for name, _ in people[:_PEOPLE]] + ["others"] * bool(rest)
        totals = {
            colour: f"{name} {number(sum(steps))}" for (colour, steps), name in zip(series.items(), names, strict=True)
        }
        tips = [axis.label(i) for i in range(axis.bins)]
        words = f"Labels over time by person: {', '.join(totals.values())}"
        parts += ["<h3>Labels over time</h3>", legend(totals), columns(series, _ticks(axis), words, tips)]
    verdicts = [(key, camera.verdicts) for key, camera in sorted(facts.cameras.items()) if camera.verdicts]
    if verdicts:
        rows = [_verdicts(*each) for each in sorted(verdicts, key=lambda each: -each[1].total())]
        parts += ["<h3>Verdicts per camera</h3>", legend(_VERDICTS)]
        parts.append(_cameras(("camera", "verdicts", "labels", "useful"), rows))
    else:
        parts.append("<p>Nobody has labelled anything yet.</p>")
    return _section("Labelling", "".join(parts))


def _states(facts: Facts) -> str:
    """How far the work is."""
    done = facts.candidates - sum(facts.states[state] for state in _WAITING)
    shares = {"done": done / facts.candidates}
    shares |= {state: facts.states[state] / facts.candidates for state in _WAITING[::-1]}
    names = {"done": f"done {number(done)}"}
    names |= {state: f"{state} {number(facts.states[state])}" for state in _WAITING[::-1] if facts.states[state]}
    return legend(names) + bar(shares, f"Of {facts.candidates} candidates: {', '.join(names.values())}")


def _verdicts(key: tuple[str, str], verdicts: Mapping[str, int]) -> Sequence[str]:
    total = sum(verdicts.values())
    parts = {name: verdicts.get(name, 0) / total for name in _VERDICTS}
    words = ", ".join(f"{text} {verdicts.get(name, 0)}" for name, text in _VERDICTS.items())
    return escape(" / ".join(key)), bar(parts, words), number(total), f"{parts['useful']:.0%}"


def _budget(facts: Facts) -> str:
    rows = []
    ordered = sorted(facts.cameras.items(), key=lambda each: (-each[1].lanes.total(), each[0]))
    for (device, name), camera in ordered:
        total = camera.lanes.total()
        looked = accuracy.considered(camera.canaries)
        parts: dict[str, float] = {lane: camera.lanes[lane] / total for lane in LANES}
        words = ", ".join(f"{lane} {n}" for lane, n in camera.lanes.items())
        share = f"{total / looked:.1%}" if looked else "unknown"
        seen = number(round(looked)) if looked else "unknown"
        rows.append((escape(f"{device} / {name}"), bar(parts, words), number(total), seen, share))
    lead = "Of the frames that each camera looked at (estimated from its canary draws), how many became candidates."
    body = _cameras(("camera", "lanes", "candidates", "frames", "share"), rows)
    return _section("Budget use", legend({lane: lane for lane in LANES if lane in facts.lanes}) + body, lead)


def _devices(facts: Facts) -> str:
    rows = [
        (
            escape(row["device"]),
            escape(row["last"][:16].replace("T", " ")),
            *(number(row[key]) for key in ("stored", "duplicate", "partial", "rejected")),
            f"{row['bytes'] / 1e6:.1f} MB",
        )
        for row in facts.devices
    ]
    head = ("device", "last heard (UTC)", "stored", "sent twice", "incomplete", "rejected", "bytes")
    return _section("Devices", table(head, rows), f"Models: {_models(facts)}.")


def _models(facts: Facts) -> str:
    return ", ".join(f"{escape(name)} ({number(n)})" for name, n in facts.models.most_common(6))
