"""``dataset need``: what a version's training set tells the fleet to look for, and what people said of each camera."""

from __future__ import annotations

from agent.collector import LabelStore
from agent.dataset.versions.record import Version
from agent.selection.scores import class_weights


def weights(version: Version) -> dict[str, float]:
    """Weight per class, 0..1, by the objects in `train`: the same curve by which a device weighs its model's counts.

    A device has the counts of the model that it runs; these are those of the newest labels.
    """
    counts = [numbers.get("train", 0) for numbers in version.card.classes.values()]
    found = class_weights(counts, {}, version.names)
    return {name: round(float(weight), 3) for name, weight in zip(version.names, found, strict=True)}


def verdicts(store: LabelStore) -> dict[str, dict[str, int]]:
    """Candidates per verdict of a person, by `device/camera`: which cameras are worth their uploads."""
    found: dict[str, dict[str, int]] = {}
    columns = "c.device AS device, c.camera AS camera, l.verdict AS verdict, count(*) AS n"
    for row in store.rows(columns, "l.cid IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"):
        found.setdefault(f"{row['device']}/{row['camera']}", {})[row["verdict"]] = row["n"]
    return found
