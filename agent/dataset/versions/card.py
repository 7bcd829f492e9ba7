"""The card of a version, for a person to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.dataset.versions.record import SPLITS, Card, Left, Origin

LISTED = 50
"""Samples of a list that are named; card.json has all."""


def text(card: Card) -> str:
    """card.md."""
    return "\n".join([*_head(card), *_pictures(card), *_classes(card), *_lists(card)]) + "\n"


def _head(card: Card) -> Iterator[str]:
    yield f"# {card.version}"
    yield ""
    yield f"Built {card.created}, seed {card.seed}, val share {card.val_share:g}, content `{card.content}`."
    yield ""
    yield f"Parent: {_origin(card.parent) if card.parent else 'none'}"
    for base in card.bases:
        yield f"Base: {_origin(base)}"
    for synthetic in card.synthetic:
        yield f"Synthetic (at most {card.synthetic_cap:.0%} of train): {_origin(synthetic)}"
    yield f"Tools: {', '.join(f'{name} {version}' for name, version in card.tools.items())}"


def _origin(origin: Origin) -> str:
    declared = f", declared by {origin.declared_by}" if origin.declared_by else ""
    return f"{origin.name} ({origin.path}, `{origin.content[:8]}`{declared})"


def _pictures(card: Card) -> Iterator[str]:
    names = {"base": "declared real", "candidate": "human-verified", "synthetic": "synthetic"}
    yield from ("", "## Pictures", "", f"| | {' | '.join(SPLITS)} |", "|---|---|---|---|")
    for source, name in names.items():
        numbers = " | ".join(str(card.images[split].get(source, 0)) for split in SPLITS)
        yield f"| {name} | {numbers} |"
    yield f"| self-labelled | {' | '.join('0' for _ in SPLITS)} |"
    yield ""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in card.ratio.items()).replace("_", "-")
    yield f"Of train and val: {shares}."
    yield "eval holds canary draws with people's labels: an unbiased sample of the cameras, never trained on."


def _classes(card: Card) -> Iterator[str]:
    yield from ("", "## Objects", "", f"| class | {' | '.join(SPLITS)} |", "|---|---|---|---|")
    for name, numbers in card.classes.items():
        yield f"| {name.replace('|', '/')} | {' | '.join(str(numbers[split]) for split in SPLITS)} |"


def _lists(card: Card) -> Iterator[str]:
    yield from _list("Withdrawn by a person's verdict", card.withdrawn)
    yield from _list("With a new label", (Left(key=key, why="") for key in card.relabelled))
    yield from _list("On another side than their folder said", card.moved)
    yield from _list("Left out", card.left_out)


def _list(title: str, entries: Iterable[Left]) -> Iterator[str]:
    held = list(entries)
    if held:
        yield from ("", f"## {title}: {len(held)}", "")
        yield from (f"- {each.key}{': ' if each.why else ''}{each.why}" for each in held[:LISTED])
        if len(held) > LISTED:
            yield f"- and {len(held) - LISTED} more in card.json"
