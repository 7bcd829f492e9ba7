"""Charts and tables as HTML with inline SVG: no script, sizes in percent, so that a phone shows what a desk does.

A chart's shapes are stretched to its width; its words are HTML beside them and keep their size. Each chart says in
words what it shows, for those who do not see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from agent.selection.canary import Estimate


def number(value: float) -> str:
    """Whole numbers with thin spaces; small ones with two digits."""
    return f"{value:,.0f}".replace(",", "\u2009") if value == int(value) or abs(value) >= 100 else f"{value:.2g}"


def chart(shapes: str, size: tuple[float, float], top: float, ticks: Sequence[str], words: str) -> str:
    """A plot of `size` (in units of the shapes) with its highest value, the words under it, and what it shows."""
    width, height = size
    labels = "".join(f"<span>{escape(tick)}</span>" for tick in ticks)
    heights = (("grid", 0.0), ("grid", height / 2), ("axis", height))
    lines = [f'<line class="{kind}" x1="0" x2="{width:g}" y1="{y:g}" y2="{y:g}"/>' for kind, y in heights]
    return (
        f'<figure class="chart"><span class="top">{number(top)}</span>'
        f'<svg viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" role="img" aria-label="{escape(words)}">'
        f"{''.join(lines[:2])}{shapes}{lines[2]}</svg>"
        f'<figcaption class="ticks">{labels}</figcaption></figure>'
    )


def columns(series: Mapping[str, Sequence[int]], ticks: Sequence[str], words: str, tips: Sequence[str]) -> str:
    """Stacked columns, one per step; `series` by the CSS class of its colour; `tips` are shown when pointed at."""
    totals = [sum(step) for step in zip(*series.values(), strict=True)]
    top = max(totals, default=0) or 1
    shapes = []
    for i in range(len(totals)):
        floor, parts = float(top), []
        for name, values in series.items():
            if values[i]:
                floor -= values[i]
                parts.append(f'<rect class="{name}" x="{i + 0.1:g}" y="{floor:g}" width=".8" height="{values[i]}"/>')
        shapes.append(f"<g><title>{escape(tips[i])}: {totals[i]}</title>{''.join(parts)}</g>" if parts else "")
    return chart("".join(shapes), (len(totals), top), top, ticks, words)


def ribbon(points: Sequence[Estimate | None], overall: Estimate, ticks: Sequence[str], words: str) -> str:
    """Estimates over time with their intervals, and the overall one as a band behind them."""
    known = [point for point in points if point]
    top = max([overall.high, *(point.high for point in known)]) or 1.0
    width = len(points)

    def y(value: float) -> str:
        return f"{(1 - max(value, 0.0) / top) * 100:.3f}"

    shapes = [
        f'<rect class="band" x="0" width="{width}" y="{y(overall.high)}" '
        f'height="{(overall.high - max(overall.low, 0)) / top * 100:.3f}"/>',
        f'<line class="mean" x1="0" x2="{width}" y1="{y(overall.mean)}" y2="{y(overall.mean)}"/>',
    ]
    for i, point in enumerate(points):
        if point:
            x = i + 0.5
            shapes.append(
                f"<g><title>{point.mean:.2f} ({max(point.low, 0):.2f} to {point.high:.2f})</title>"
                f'<line class="whisker" x1="{x:g}" x2="{x:g}" y1="{y(point.low)}" y2="{y(point.high)}"/>'
                f'<line class="dot" x1="{x:g}" x2="{x:g}" y1="{y(point.mean)}" y2="{y(point.mean)}"/></g>'
            )
    return chart("".join(shapes), (width, 100), top, ticks, words)


def legend(entries: Mapping[str, str]) -> str:
    """Colours (CSS classes) with their names."""
    return (
        '<ul class="legend">'
        + "".join(f'<li><i class="{colour}"></i>{escape(name)}</li>' for colour, name in entries.items())
        + "</ul>"
    )


def bar(parts: Mapping[str, float], words: str) -> str:
    """A horizontal bar of parts, each a CSS class and a share of the whole width (0..1)."""
    inner = "".join(
        f'<i class="{name}" style="width:{min(share, 1.0) * 100:.2f}%"></i>' for name, share in parts.items() if share
    )
    return f'<span class="bar" role="img" aria-label="{escape(words)}">{inner}</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where it is too wide; cells are HTML."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def interval(found: Estimate) -> str:
    """An estimate in words; what is counted cannot be less than none."""
    return f"{found.mean:.2f} (95 %: {max(found.low, 0.0):.2f} to {found.high:.2f})"
