"""Ingest and store, message by message, without a broker."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import durable
from agent.collector import devices, image_path, listing, meta_path, read_meta
from agent.collector.arrival import Incoming
from agent.collector.index import INDEX
from agent.collector.ingest import Ingest, Outcome
from agent.collector.jpeg import check_jpeg, declared_size
from agent.collector.staging import DEVICE_BYTES, KEEP_S, Staging
from agent.collector.store import Store
from agent.errors import ConfigError, WireError
from agent.records import Item
from agent.wire import Ack, CandidateHeader, Query, decode_candidate, encode_candidate, encode_item, encode_part, split
from tests.fakes.clock import FakeClock
from tests.fakes.items import a_picture_item, an_item

DEVICE = "gate-north"


class Bench:
    """A collector without its broker."""

    def __init__(self, folder: Path, *, staging: Path | None = None, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.store = Store(folder, self.clock)
        self.staging = Staging(staging or folder / "staging.sqlite", str(folder) if staging else "")
        self.ingest = Ingest(self.store, self.staging, self.clock, max_image_bytes=1_000_000)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.ingest.close()
        self.staging.close()
        self.store.close()

    def take(self, *payloads: bytes, device: str = DEVICE) -> list[Ack]:
        """The acks to this device for a batch of its messages."""
        outcome: Outcome = self.ingest.candidates([Incoming(device, payload) for payload in payloads])
        assert set(outcome.acks) <= {device}
        return list(outcome.acks[device].values())

    def ask(self, *cids: str, device: str = DEVICE) -> list[str]:
        outcome = self.ingest.query(Incoming(device, Query(cids=cids).encode()))
        return [ack.st for ack in outcome.acks[device].values()]

    def cids(self) -> list[str]:
        return [row["cid"] for row in listing(self.store.folder)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path / "store") as collector:
        yield collector


def chunks(item: Item, size: int = 8_000) -> list[bytes]:
    return [encode_part(item, part) for part in split(item, f"tk/v1/{DEVICE}/up/c", size, size)]


def altered(item: Item, **changes: Any) -> bytes:
    """The item as one part with another header."""
    header, body = decode_candidate(encode_item(item))
    return encode_candidate(CandidateHeader.model_validate({**header.model_dump(), **changes}), body)


PICTURE = a_picture_item()
LARGE = a_picture_item(1, width=640, height=480)


def test_a_candidate_is_stored_with_its_metadata_and_listed(bench: Bench) -> None:
    assert [ack.st for ack in bench.take(encode_item(PICTURE))] == ["stored"]
    (row,) = listing(bench.store.folder)
    assert row == {
        "cid": PICTURE.cid,
        "device": DEVICE,
        "camera": "gate",
        "ts": PICTURE.meta.ts,
        "lane": "uncertain",
        "score": 1.0,
        "probability": None,
        "model": "yolo26n",
        "sha256": PICTURE.sha256,
        "bytes": len(PICTURE.image),
        "path": f"images/{PICTURE.cid[:2]}/{PICTURE.cid}.jpg",
        "received": "2027-01-15T08:00:00.000Z",
        "label": "unlabelled",
    }
    assert (bench.store.folder / image_path(PICTURE.cid)).read_bytes() == PICTURE.image
    record = json.loads((bench.store.folder / meta_path(PICTURE.cid)).read_bytes())
    assert {key: record[key] for key in ("v", "cid", "sha256", "size", "ctype")} == {
        "v": 1,
        "cid": PICTURE.cid,
        "sha256": PICTURE.sha256,
        "size": len(PICTURE.image),
        "ctype": "image/jpeg",
    }
    assert read_meta(bench.store.folder, PICTURE.cid) == PICTURE.meta


def test_chunks_are_put_together_in_any_order_and_with_repeats(bench: Bench) -> None:
    parts = chunks(LARGE)
    random.Random(1).shuffle(parts)
    assert bench.take(*parts[:5], *parts[2:4]) == []
    assert [ack.st for ack in bench.take(*parts[5:], parts[0])] == ["stored"]
    assert (bench.store.folder / image_path(LARGE.cid)).read_bytes() == LARGE.image


def test_parts_that_arrive_together_are_put_together_without_staging(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def staged(*_: object) -> None:
        raise AssertionError("staged")

    monkeypatch.setattr(bench.staging, "add", staged)
    payloads = chunks(LARGE)
    random.Random(2).shuffle(payloads)
    assert [ack.st for ack in bench.take(*payloads, payloads[0])] == ["stored"]
    assert (bench.store.folder / image_path(LARGE.cid)).read_bytes() == LARGE.image


def test_parts_that_lack_others_are_held_and_given_again_with_those(bench: Bench) -> None:
    first, *others = [Incoming(DEVICE, payload) for payload in chunks(LARGE)]
    single = Incoming(DEVICE, encode_item(PICTURE))
    outcome = bench.ingest.candidates([first, single, others[0]], hold=True)
    assert outcome.held == {0, 2}
    assert set(outcome.acks[DEVICE]) == {PICTURE.cid}
    assert bench.staging.begun([LARGE.cid]) == set()
    outcome = bench.ingest.candidates([first, *others], hold=True)
    assert not outcome.held
    assert outcome.acks[DEVICE][LARGE.cid].st == "stored"


def test_parts_that_are_held_no_longer_are_staged_and_so_is_what_completes_them(bench: Bench) -> None:
    first, *others = [Incoming(DEVICE, payload) for payload in chunks(LARGE)]
    assert not bench.ingest.candidates([first]).held
    assert bench.staging.begun([LARGE.cid]) == {LARGE.cid}
    outcome = bench.ingest.candidates(others, hold=True)
    assert (outcome.held, outcome.acks[DEVICE][LARGE.cid].st) == (set(), "stored")
    assert bench.staging.begun([LARGE.cid]) == set()


def test_parts_of_two_cuts_that_arrive_together_are_not_mixed(bench: Bench) -> None:
    coarse, fine = chunks(LARGE, 16_000), chunks(LARGE)
    assert bench.take(coarse[0], *fine[1:]) == []
    assert [ack.st for ack in bench.take(fine[0])] == ["stored"]
    assert (bench.store.folder / image_path(LARGE.cid)).read_bytes() == LARGE.image


def test_parts_survive_a_restart(tmp_path: Path) -> None:
    parts = chunks(LARGE)
    with Bench(tmp_path) as before:
        before.take(*parts[:-1])
    with Bench(tmp_path) as after:
        assert [ack.st for ack in after.take(parts[-1])] == ["stored"]


def test_another_cut_of_the_same_image_replaces_the_older_one(bench: Bench) -> None:
    bench.take(*chunks(LARGE, 8_000)[:-1])
    newer = chunks(LARGE, 9_000)
    assert bench.take(*newer[:-1]) == []
    assert [ack.st for ack in bench.take(newer[-1])] == ["stored"]


def test_what_is_there_already_is_a_duplicate_at_once(bench: Bench) -> None:
    bench.take(encode_item(LARGE))
    assert [ack.st for ack in bench.take(chunks(LARGE)[3])] == ["duplicate"]
    assert bench.cids() == [LARGE.cid]


def test_the_same_candidate_twice_in_a_batch_is_one_copy(bench: Bench) -> None:
    assert [ack.st for ack in bench.take(encode_item(PICTURE), encode_item(PICTURE))] == ["stored"]
    assert bench.cids() == [PICTURE.cid]


def test_questions_are_answered_from_the_store(bench: Bench) -> None:
    bench.take(encode_item(PICTURE), chunks(LARGE)[0])
    assert bench.ask(PICTURE.cid, LARGE.cid) == ["stored", "unknown"]
    assert bench.ask(PICTURE.cid, device="somebody") == ["unknown"]


def test_damage_makes_it_partial_twice_and_then_rejected(bench: Bench) -> None:
    parts = chunks(LARGE)
    header, body = decode_candidate(parts[2])
    parts[2] = encode_candidate(header, bytes(len(body)))
    answers = [bench.take(*parts)[0] for _ in range(3)]
    assert [answer.st for answer in answers] == ["partial", "partial", "rejected"]
    assert answers[0].missing == tuple(range(len(parts)))
    assert [ack.st for ack in bench.take(*chunks(LARGE))] == ["stored"]


BOMB = PICTURE.meta.model_copy(update={"image": PICTURE.meta.image.model_copy(update={"w": 60_000, "h": 60_000})})
HOSTILE = {
    "an id that is not its own": altered(PICTURE, cid="0" * 32),
    "an image above the limit": altered(PICTURE, size=1_000_001, n=9),
    "a part beyond the end": altered(PICTURE, n=2, i=1, off=len(PICTURE.image)),
    "a part number beyond the count": altered(PICTURE, n=2, i=5),
    "a whole that is too short": altered(PICTURE, size=len(PICTURE.image) + 1),
    "no metadata": altered(PICTURE, meta=None),
    "pixels that are not there": altered(PICTURE, meta=BOMB),
    "an image that is none": encode_item(an_item()),
    "too many parts": b"TKC1\x00\x00\x00\x34" + b'{"v":1,"n":999,"cid":"' + b"a" * 32 + b'"    }',
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_candidates_are_rejected_and_leave_nothing(bench: Bench, payload: bytes) -> None:
    (answer,) = bench.take(payload)
    assert answer.st == "rejected"
    assert answer.why
    assert bench.cids() == []
    assert not [path for path in bench.store.folder.rglob("*") if path.suffix in {".jpg", ".json"}]


def test_another_devices_topic_neither_delivers_nor_disturbs(bench: Bench) -> None:
    parts = chunks(LARGE)
    bench.take(*parts[:3])
    assert {ack.st for ack in bench.take(*parts, device="intruder")} == {"rejected"}
    assert [ack.st for ack in bench.take(*parts[3:])] == ["stored"]
    assert {ack.st for ack in bench.take(parts[1], device="intruder")} == {"rejected"}


def test_unfinished_candidates_of_a_device_have_a_limit_and_an_end(bench: Bench) -> None:
    body = bytes(900_000)
    for number in range(DEVICE_BYTES // len(body)):
        header = CandidateHeader(cid=f"{number:032x}", i=1, n=2, off=10, size=999_999, sha256="0" * 64)
        assert bench.take(encode_candidate(header, body)) == []
    one_more = header.model_copy(update={"cid": "f" * 32})
    assert [ack.st for ack in bench.take(encode_candidate(one_more, body))] == ["rejected"]
    assert [ack.st for ack in bench.take(encode_item(PICTURE))] == ["stored"]
    bench.clock.advance(KEEP_S + 1)
    bench.ingest.sweep()
    assert bench.take(encode_candidate(one_more, body)) == []


def test_garbage_is_counted_and_not_answered(bench: Bench) -> None:
    assert bench.take(b"", b"TKC1", b"\x00" * 100) == []
    bench.ingest.query(Incoming(DEVICE, b"{}"))
    assert bench.ingest.counters["bad"] == 4


def test_what_each_device_did_is_on_account(bench: Bench) -> None:
    bench.take(encode_item(PICTURE))
    bench.take(encode_item(PICTURE))
    bench.take(altered(PICTURE, cid="0" * 32))
    (account,) = devices(bench.store.folder)
    assert (account["device"], account["stored"], account["duplicate"], account["rejected"]) == (DEVICE, 1, 1, 1)
    assert account["bytes"] == len(PICTURE.image)


def test_a_batch_given_again_after_a_failure_is_stored_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_all", full)
        with pytest.raises(OSError, match="No space"):
            bench.take(encode_item(PICTURE), *chunks(LARGE))
    assert bench.cids() == []
    assert [ack.st for ack in bench.take(encode_item(PICTURE), *chunks(LARGE))] == ["stored", "stored"]


def test_files_without_a_row_are_adopted_and_unfinished_ones_removed(tmp_path: Path) -> None:
    with Bench(tmp_path) as before:
        before.take(encode_item(PICTURE), encode_item(LARGE))
    (tmp_path / INDEX).unlink()
    (tmp_path / image_path(LARGE.cid)).unlink()
    leftover = tmp_path / "images" / "00" / ("0" * 32 + ".jpg" + durable.TEMPORARY)
    leftover.write_bytes(b"half")
    with Bench(tmp_path) as after:
        assert after.cids() == [PICTURE.cid]
        assert after.ask(PICTURE.cid, LARGE.cid) == ["stored", "unknown"]
        assert [ack.st for ack in after.take(encode_item(LARGE))] == ["stored"]
    assert not leftover.exists()


def test_a_damaged_index_is_set_aside_and_rebuilt_from_the_files(tmp_path: Path) -> None:
    with Bench(tmp_path) as before:
        before.take(encode_item(PICTURE))
    (tmp_path / INDEX).write_bytes(b"no database" * 1000)
    with Bench(tmp_path) as after:
        assert after.cids() == [PICTURE.cid]
        assert after.ask(PICTURE.cid) == ["stored"]
    assert (tmp_path / f"{INDEX}.bad").exists()


def test_stores_that_share_their_staging_keep_one_copy_between_them(tmp_path: Path) -> None:
    staging = tmp_path / "staging.sqlite"
    parts = chunks(LARGE)
    with Bench(tmp_path / "a", staging=staging) as one, Bench(tmp_path / "b", staging=staging) as other:
        one.take(*parts[::2])
        assert [ack.st for ack in other.take(*parts[1::2])] == ["stored"]
        assert [ack.st for ack in one.take(encode_item(LARGE))] == ["duplicate"]
        assert one.ask(LARGE.cid) == ["stored"]
        assert (one.cids(), other.cids()) == ([], [LARGE.cid])


def test_an_adopted_candidate_that_another_store_took_meanwhile_goes(tmp_path: Path) -> None:
    staging = tmp_path / "staging.sqlite"
    with Bench(tmp_path / "a") as crashed:  # written, and power lost before the claim and the row
        crashed.store.write([PICTURE])
    with Bench(tmp_path / "b", staging=staging) as other:
        other.take(encode_item(PICTURE))
    with Bench(tmp_path / "a", staging=staging) as again:
        assert again.cids() == []
        assert not (tmp_path / "a" / image_path(PICTURE.cid)).exists()


def test_a_listing_beside_the_running_collector_writes_nothing(bench: Bench) -> None:
    bench.take(encode_item(PICTURE))
    before = sorted(path.name for path in bench.store.folder.iterdir())
    assert bench.cids() == [PICTURE.cid]
    bench.take(encode_item(LARGE))
    assert bench.cids() == [PICTURE.cid, LARGE.cid]
    assert sorted(path.name for path in bench.store.folder.iterdir()) == before


def test_no_store_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no collector's store; name the folder"):
        list(listing(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"collector\.store"):
        Store(tmp_path / "file", FakeClock())


def test_a_truncated_or_broken_picture_is_refused() -> None:
    image, (width, height) = PICTURE.image, (320, 240)
    check_jpeg(image, width, height)
    assert declared_size(image) == (width, height)
    for wrong in (image[:-2], b"", b"\xff\xd8\xff\xd9", image[: len(image) // 2], b"\x89PNG" + image):
        with pytest.raises(WireError):
            check_jpeg(wrong, width, height)
    with pytest.raises(WireError, match="declares 320 x 240"):
        check_jpeg(image, 640, 480)


def test_no_name_of_a_candidate_is_kept_for_ever(tmp_path: Path, interned: list[str]) -> None:
    store, item = Store(tmp_path, FakeClock()), an_item(1)
    store.write([item])
    store.add([item], {})
    assert (tmp_path / image_path(item.cid)).exists()
    assert [name for name in interned if item.cid in name] == [f"{item.cid}.jpg"]  # ours, just now
    store.remove(item.cid)
    store.close()
    assert len([name for name in interned if item.cid in name]) == 1
