"""``dataset diff``: what one version has that another has not."""

from __future__ import annotations

from typing import Any

from agent.dataset.versions.record import Version


def diff(one: Version, other: Version) -> dict[str, Any]:
    """added, removed, relabelled, moved (keys of samples) and objects by class and split, as `other` minus `one`."""
    before, after = ({sample.key: sample for sample in each.samples} for each in (one, other))
    both = before.keys() & after.keys()
    return {
        "from": one.card.version,
        "to": other.card.version,
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "relabelled": sorted(key for key in both if before[key].label_sha256 != after[key].label_sha256),
        "moved": sorted(key for key in both if before[key].split != after[key].split),
        "classes": _classes(one, other),
    }


def _classes(one: Version, other: Version) -> dict[str, dict[str, int]]:
    """Classes of which there are more or fewer objects now."""
    found = {}
    for name in dict.fromkeys([*one.card.classes, *other.card.classes]):
        before, after = one.card.classes.get(name, {}), other.card.classes.get(name, {})
        change = {split: after.get(split, 0) - before.get(split, 0) for split in {**before, **after}}
        if any(change.values()):
            found[name] = change
    return found
