"""What people's words come to: nobody is overruled in silence, and order of arrival does not decide."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collector import TRUTH, Drawn, Revision
from agent.collector.revisions import agree, decode_revision, standing
from agent.errors import ItemError

BOXES = {
    "car": (Drawn(name="car", xyxy=(10, 10, 50, 40)),),
    "bus": (Drawn(name="bus", xyxy=(10, 10, 50, 40)),),
    "away": (Drawn(name="car", xyxy=(60, 10, 90, 40)),),
    "none": (),
}


def word(number: int, boxes: str = "car", **changes: Any) -> Revision:
    said = {
        "cid": "0" * 32, "revision": number, "image": "a" * 64, "width": 100, "height": 80, "boxes": BOXES[boxes],
        "verdict": "useful" if BOXES[boxes] else "nothing", "who": "ann", "when": "2027-01-16T08:00:00Z", "tool": "t",
    }  # fmt: skip
    return Revision.model_validate({**said, **changes})


@st.composite
def words(draw: st.DrawFn) -> list[Revision]:
    """What up to three people say over three days, in any order of arrival."""
    said = []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        changes = {
            "who": draw(st.sampled_from(["ann", "bob", "cyd"])),
            "when": f"2027-01-1{draw(st.integers(0, 2))}T08:00:00Z",
            "partial": draw(st.booleans()) and draw(st.booleans()),
        }
        said.append(word(number, draw(st.sampled_from(sorted(BOXES))), **changes))
    return said


@given(words())
def test_a_candidate_is_learned_from_only_where_everybodys_last_word_is_the_same(said: list[Revision]) -> None:
    now = standing(said)
    last = {
        who: max((w for w in said if w.who == who), key=lambda w: (w.when, w.revision)) for who in {w.who for w in said}
    }
    if now.state in TRUTH:
        chosen = next(w for w in said if w.revision == now.revision)
        assert chosen in last.values()
        assert not any(w.partial for w in last.values())
        assert all(agree(chosen, w) for w in last.values())
    elif now.state == "partial":
        assert any(w.partial for w in last.values())
    else:
        assert now.state == "conflict"
        assert len(last) > 1


@given(words(), st.integers(0, 5))
def test_a_decision_settles_what_was_said_before(said: list[Revision], chosen: int) -> None:
    decided = said[chosen % len(said)].model_copy(update={"revision": len(said) + 1, "settles": True, "partial": False})
    assert standing([*said, decided]).revision == decided.revision


@given(words())
def test_a_revision_is_read_as_it_was_written(said: list[Revision]) -> None:
    for each in said:
        assert decode_revision(each.encode(), "x") == each


@pytest.mark.parametrize("field", [name for name in Revision.model_fields if name != "v"])
def test_a_change_to_any_field_shows(field: str) -> None:
    document = json.loads(word(1, taken="2027-01-16T09:00:00Z").encode())
    other = {"boxes": [], "verdict": "junk", "partial": True, "settles": True, "cid": "1" * 32, "image": "b" * 64}
    document[field] = other.get(field, document[field] + 1 if isinstance(document[field], int) else "other")
    with pytest.raises(ItemError, match="x was changed after it was stored"):
        decode_revision(json.dumps(document).encode(), "x")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"sha256": 1}', b"\xff", b'"text"', b'{"sha256": {}, "cid": 3}']
)
def test_what_is_no_label_is_refused(content: bytes) -> None:
    with pytest.raises(ItemError, match="x"):
        decode_revision(content, "x")


def test_people_may_draw_their_boxes_in_any_order() -> None:
    two = BOXES["car"] + BOXES["away"]
    assert agree(
        word(1, boxes="car").model_copy(update={"boxes": two}), word(2).model_copy(update={"boxes": two[::-1]})
    )
    assert not agree(word(1), word(2, boxes="away"))
    assert not agree(word(1), word(2, boxes="none"))
