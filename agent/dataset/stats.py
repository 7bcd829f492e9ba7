"""What is in the store, counted by the index: no file is read."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from agent.collector import LabelStore


def stats(store: LabelStore) -> dict[str, Any]:
    """Candidates and labels in numbers.

    candidates, bytes, near_duplicates (left out of exports); labels: candidates by state; lanes, devices:
    {name: {state: n}}; classes: objects {name: {served, labelled}}; verdicts, people: labels that stand.
    """
    store.describe_all()
    return {
        **next(store.rows("count(*) AS candidates, coalesce(sum(bytes), 0) AS bytes, count(twin) AS near_duplicates")),
        "labels": dict(_counted(store, "c.label")),
        "lanes": _by(store, "lane"),
        "devices": _by(store, "device"),
        "classes": _classes(store),
        "verdicts": dict(_counted(store, "l.verdict", "l.cid IS NOT NULL")),
        "people": dict(_counted(store, "l.who", "l.cid IS NOT NULL")),
    }


def _counted(store: LabelStore, column: str, where: str = "1") -> list[tuple[str, int]]:
    rows = store.rows(f"{column} AS name, count(*) AS n", f"{where} GROUP BY 1 ORDER BY 2 DESC, 1")
    return [(row["name"], row["n"]) for row in rows]


def _by(store: LabelStore, column: str) -> dict[str, dict[str, int]]:
    """Counts per label state, for each value of a column."""
    found: dict[str, dict[str, int]] = {}
    for row in store.rows(f"{column} AS name, c.label AS state, count(*) AS n", "1 GROUP BY 1, 2 ORDER BY 1, 2"):
        found.setdefault(row["name"], {})[row["state"]] = row["n"]
    return found


def _classes(store: LabelStore) -> dict[str, dict[str, int]]:
    """Objects per class: served by models, and drawn by people where their label may be learned from."""
    served, labelled = Counter[str](), Counter[str]()
    for counter, column, where in (
        (served, "served", "1"),
        (labelled, "l.classes", "c.label IN ('labelled', 'nothing')"),
    ):
        for row in store.rows(f"{column} AS names, count(*) AS n", f"{where} GROUP BY 1"):
            for name, objects in json.loads(row["names"] or "{}").items():
                counter[name] += objects * row["n"]
    names = sorted(served | labelled, key=lambda name: (-served[name], name))
    return {name: {"served": served[name], "labelled": labelled[name]} for name in names}
