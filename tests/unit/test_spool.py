"""The spool: what goes in comes out, in order of worth, within its limits, whatever happens to its files."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import spool as look
from agent.errors import ItemError, SpoolFullError
from agent.settings import SpoolSettings
from agent.spool import Spool
from tests.fakes.clock import FakeClock
from tests.fakes.items import an_item

Open = Callable[..., Spool]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def open_spool(tmp_path: Path, clock: FakeClock) -> Iterator[Open]:
    """Open (again) the one spool of this test; limits as arguments."""
    opened: list[Spool] = []

    def open_it(wake: Callable[[], None] | None = None, **limits: float) -> Spool:
        settings = SpoolSettings.model_validate({"reserve_bytes": 100_000, **limits})
        opened.append(Spool(tmp_path / "spool", settings, clock, wake))
        opened[-1].recover()
        return opened[-1]

    yield open_it
    for spool in opened:
        spool.close()


def crash(spool: Spool) -> None:
    """Leave as a killed process does: what was not committed is lost."""
    spool._table.drop()


# Put, claim, forget


def test_an_item_comes_back_as_it_was_put(open_spool: Open) -> None:
    spool, item = open_spool(), an_item(1, classes=("person", "car"))
    assert spool.put(item)
    (entry,) = spool.claim(10)
    assert spool.load(entry.cid) == item
    assert (entry.cid, entry.camera, entry.ts_ns, entry.lane) == (item.cid, "gate", item.meta.ts_ns, "uncertain")


def test_no_name_of_an_item_is_kept_for_ever(open_spool: Open, interned: list[str]) -> None:
    spool, item = open_spool(), an_item(1)
    spool.put(item)
    (entry,) = spool.claim(1)
    spool.load(entry.cid)
    spool.forget(entry.cid)
    assert spool.stats().items == 0
    assert not [name for name in interned if item.cid in name]


def test_the_same_item_put_twice_is_one_item(open_spool: Open) -> None:
    spool = open_spool()
    assert spool.put(an_item(1))
    assert not spool.put(an_item(1))
    assert spool.stats().items == 1


def test_a_claimed_item_is_not_claimed_again_until_released(open_spool: Open) -> None:
    spool = open_spool()
    spool.put(an_item(1))
    (entry,) = spool.claim(10)
    assert entry.state == "sending"
    assert spool.claim(10) == []
    spool.release(entry.cid)
    assert [again.cid for again in spool.claim(10)] == [entry.cid]


def test_a_released_item_is_due_after_its_delay(open_spool: Open, clock: FakeClock) -> None:
    spool = open_spool()
    spool.put(an_item(1))
    (entry,) = spool.claim(1)
    spool.release(entry.cid, after_s=30, blamed=True)
    clock.jump(3600)
    assert spool.claim(1) == []
    clock.advance(31)
    (again,) = spool.claim(1)
    assert again.blamed == 1


def test_a_sent_item_waits_for_its_receipt(open_spool: Open, clock: FakeClock) -> None:
    spool = open_spool()
    spool.put(an_item(1))
    (entry,) = spool.claim(1)
    spool.sent(entry.cid)
    clock.advance(90)
    (waiting,) = spool.waiting()
    assert (waiting.cid, waiting.state, waiting.tries) == (entry.cid, "sent", 1)
    assert waiting.waited_s == pytest.approx(90)
    assert spool.stats().sent == 1


def test_a_forgotten_item_leaves_no_file(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool()
    spool.put(an_item(1))
    spool.forget(an_item(1).cid)
    spool.close()
    assert list((tmp_path / "spool" / "items").rglob("*.tkc")) == []
    assert open_spool().stats().items == 0


def test_an_item_that_is_delivered_at_once_never_reaches_the_index_on_the_disk(
    open_spool: Open, tmp_path: Path, clock: FakeClock
) -> None:
    spool = open_spool()
    log = tmp_path / "spool" / "index.sqlite-wal"
    written = log.stat().st_size
    for number in range(3):
        item = an_item(number)
        spool.put(item)
        spool.claim(1)
        spool.sent(item.cid)
        spool.forget(item.cid)
        clock.advance(6)
    assert spool.stats().items == 0
    assert log.stat().st_size == written
    clock.advance(600)
    assert spool.claim(1) == []
    assert not list((tmp_path / "spool" / "items").rglob("*.tkc"))


def test_files_of_delivered_items_are_removed_together(open_spool: Open, tmp_path: Path, clock: FakeClock) -> None:
    """Each alone would have the disk write two more blocks."""
    spool = open_spool()
    left = []
    for number in range(17):
        spool.put(an_item(number))
        spool.forget(an_item(number).cid)
        clock.advance(10)
        left.append(len(list((tmp_path / "spool" / "items").rglob("*.tkc"))))
    assert left == [*range(1, 16), 0, 1]


def test_what_was_delivered_at_once_goes_and_what_still_waits_stays(
    open_spool: Open, tmp_path: Path, clock: FakeClock
) -> None:
    spool = open_spool()
    delivered, waiting = an_item(1), an_item(2)
    spool.put(delivered)
    spool.put(waiting)
    spool.forget(delivered.cid)
    assert spool.stats().items == 1
    clock.advance(600)
    spool.claim(0)
    assert [entry.cid for entry in look.listing(tmp_path / "spool")] == [waiting.cid]
    spool.close()
    assert [entry.cid for entry in open_spool().claim(2)] == [waiting.cid]


def test_an_item_that_was_quarantined_put_again_and_delivered_does_not_come_back(
    open_spool: Open, clock: FakeClock
) -> None:
    spool, item = open_spool(), an_item()
    spool.put(item)
    clock.advance(601)
    spool.stats()  # commits the row
    spool.quarantine(item.cid, "rejected")
    spool.put(item)
    spool.forget(item.cid)
    spool.close()
    assert open_spool().stats().items == 0


def test_unknown_ids_are_ignored_because_a_purge_may_have_come_first(open_spool: Open) -> None:
    spool = open_spool()
    for call in (spool.sent, spool.release, spool.forget):
        call(an_item(1).cid)
    with pytest.raises(ItemError, match="no such item"):
        spool.load(an_item(1).cid)
    assert spool.stats().quarantined == 0


def test_put_and_release_wake_the_uplink(open_spool: Open) -> None:
    woken = threading.Event()
    spool = open_spool(woken.set)
    spool.put(an_item(1))
    assert woken.is_set()
    woken.clear()
    spool.release(spool.claim(1)[0].cid)
    assert woken.is_set()


def test_two_threads_deliver_everything_once(open_spool: Open) -> None:
    woken = threading.Event()
    spool = open_spool(woken.set)
    items = [an_item(number, score=float(number % 7)) for number in range(60)]
    delivered: list[str] = []

    def upload() -> None:
        while len(delivered) < len(items):
            woken.wait(5)
            woken.clear()
            for entry in iter(lambda: next(iter(spool.claim(1)), None), None):
                spool.sent(entry.cid)
                delivered.append(spool.load(entry.cid).cid)
                spool.forget(entry.cid)

    uplink = threading.Thread(target=upload)
    uplink.start()
    for item in items:
        spool.put(item)
    uplink.join(60)
    assert sorted(delivered) == sorted(item.cid for item in items)
    assert spool.stats().items == 0


# Order


def test_items_of_higher_value_go_first(open_spool: Open) -> None:
    spool = open_spool()
    for number, score in enumerate((1.0, 9.0, 4.0)):
        spool.put(an_item(number, score=score))
    assert [entry.score for entry in spool.claim(3)] == [9.0, 4.0, 1.0]


def test_manual_captures_go_before_canaries_and_canaries_before_scored_frames(open_spool: Open) -> None:
    spool = open_spool()
    spool.put(an_item(1, lane="rare", score=100.0))
    spool.put(an_item(2, lane="canary", score=0.0))
    spool.put(an_item(3, lane="manual", score=0.0))
    assert [entry.lane for entry in spool.claim(3)] == ["manual", "canary", "rare"]


def test_lanes_with_different_scales_are_ranked_each_by_its_own(open_spool: Open) -> None:
    spool = open_spool()
    for number in range(20):
        spool.put(an_item(number, lane="rare", score=100.0))
        spool.put(an_item(100 + number, lane="uncertain", score=0.1))
    spool.put(an_item(200, lane="uncertain", score=0.5))
    assert spool.claim(1)[0].score == 0.5


def test_every_fourth_claim_is_the_oldest_item(open_spool: Open) -> None:
    spool = open_spool()
    for number in range(10):
        spool.put(an_item(number, score=float(number)))
    assert [entry.score for entry in spool.claim(5)] == [9.0, 8.0, 7.0, 0.0, 6.0]


# Limits


def test_the_byte_limit_is_never_exceeded_and_the_least_valuable_goes_first(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool(max_bytes=1_000_000)
    for number in range(60):
        spool.put(an_item(number, score=1.0 + number, size=30_000, classes=("person",)))
        taken = sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*") if path.is_file())
        assert taken <= 1_000_000
    stats = spool.stats()
    assert stats.items + stats.evicted["bytes"] == 60
    left = {entry.score for entry in look.listing(tmp_path / "spool")}
    assert min(left) > 20


def test_an_item_of_less_worth_than_everything_there_is_refused(open_spool: Open) -> None:
    spool = open_spool(max_items=3)
    for number in range(3):
        spool.put(an_item(number, score=10.0, classes=("person",)))
    with pytest.raises(SpoolFullError, match="limit of 3 items"):
        spool.put(an_item(9, score=0.0, classes=("person",)))
    assert (spool.stats().items, spool.stats().refused) == (3, 1)


def test_items_in_flight_are_never_evicted(open_spool: Open) -> None:
    spool = open_spool(max_items=2)
    spool.put(an_item(1, score=0.1))
    spool.put(an_item(2, score=0.2))
    flying = spool.claim(2)
    spool.sent(flying[0].cid)
    with pytest.raises(SpoolFullError):
        spool.put(an_item(3, score=100.0))
    assert [spool.load(entry.cid).cid for entry in flying] == [entry.cid for entry in flying]


def test_the_last_example_of_a_class_outlives_everything_else(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool(max_items=5)
    wheelchair = an_item(0, score=0.0, classes=("person", "wheelchair"))
    spool.put(wheelchair)
    for number in range(1, 40):
        spool.put(an_item(number, score=float(number), classes=("person",)))
    assert wheelchair.cid in {entry.cid for entry in look.listing(tmp_path / "spool")}
    assert spool.stats().evicted == {"items": 35}


def test_among_the_least_valuable_the_most_redundant_goes_first(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool(max_items=12)
    for number, name in enumerate(("dog", "dog", "car", *("person",) * 9)):
        spool.put(an_item(number, score=1.0 + number, classes=("car", name)))
    for number in range(20, 22):
        spool.put(an_item(number, score=50.0, classes=("car", "person")))
    left = {entry.cid for entry in look.listing(tmp_path / "spool")}
    assert {an_item(0).cid, an_item(1).cid} < left, "dogs are of least value, but rare"
    assert an_item(2).cid not in left


def test_a_newcomer_never_displaces_what_is_worth_more(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool(max_items=8)
    for number in range(8):
        spool.put(an_item(number, score=10.0 - number, classes=("car",) if number < 7 else ()))
    spool.put(an_item(20, score=4.0, classes=("car",)))
    left = {entry.cid for entry in look.listing(tmp_path / "spool")}
    assert {an_item(number).cid for number in range(7)} < left


def test_canaries_beyond_a_quarter_make_room_oldest_first(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool(max_bytes=1_000_000)
    for number in range(28):
        spool.put(an_item(number, lane="canary", size=30_000))
    for number in range(100, 110):
        spool.put(an_item(number, score=0.1, size=30_000))
    listed = list(look.listing(tmp_path / "spool"))
    assert sum(entry.lane == "uncertain" for entry in listed) == 10
    assert an_item(0, size=30_000).cid not in {entry.cid for entry in listed}


def test_items_beyond_the_age_limit_are_given_up_and_counted(open_spool: Open, clock: FakeClock) -> None:
    spool = open_spool(max_age_s=3600)
    spool.put(an_item(1))
    clock.jump(86_400)
    assert spool.stats().items == 1
    clock.advance(3700)
    spool.put(an_item(2, mono_ns=clock.mono_ns()))
    spool.expire()
    assert [entry.cid for entry in spool.claim(5)] == [an_item(2).cid]
    assert spool.stats().evicted == {"age": 1}


def test_the_age_limit_holds_in_the_quarantine_too(open_spool: Open, clock: FakeClock, tmp_path: Path) -> None:
    spool = open_spool(max_age_s=3600)
    spool.put(an_item(1))
    clock.advance(3000)
    spool.quarantine(an_item(1).cid, "rejected")
    damaged = an_item(2, mono_ns=clock.mono_ns())
    spool.put(damaged)
    spool.close()
    (file,) = (tmp_path / "spool/items").rglob("*.tkc")
    file.rename(file.with_name("odd"))
    spool = open_spool(max_age_s=3600)
    assert spool.stats().quarantined == 3
    clock.advance(700)
    spool.expire()
    assert {path.name.partition(".")[0] for path in (tmp_path / "spool/quarantine").iterdir()} == {"odd", damaged.cid}
    clock.advance(3600)
    spool.expire()
    assert list((tmp_path / "spool/quarantine").iterdir()) == []
    assert spool.stats().evicted == {"age": 3}


def test_eviction_counts_survive_a_restart(open_spool: Open) -> None:
    spool = open_spool(max_items=1)
    spool.put(an_item(1, score=1.0))
    spool.put(an_item(2, score=2.0))
    crash(spool)
    assert open_spool(max_items=1).stats().evicted == {"items": 1}


def test_purge_wants_to_know_how_many(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool()
    for number in range(3):
        spool.put(an_item(number))
    with pytest.raises(ItemError, match="holds 3"):
        spool.purge(2)
    assert spool.purge(3) == 3
    assert (spool.stats().items, spool.stats().evicted) == (0, {"purge": 3})
    assert list((tmp_path / "spool" / "items").rglob("*.tkc")) == []


# Recovery


def test_a_crash_right_after_put_loses_nothing(open_spool: Open) -> None:
    spool = open_spool()
    for number in range(5):
        spool.put(an_item(number))
    crash(spool)
    spool = open_spool()
    assert len(spool.claim(10)) == 5


def test_claims_of_the_last_run_are_released_and_sent_items_still_wait(open_spool: Open, clock: FakeClock) -> None:
    spool = open_spool()
    for number in range(3):
        spool.put(an_item(number))
    flying = spool.claim(2)
    spool.sent(flying[0].cid)
    spool.close()
    again = open_spool()
    assert [entry.cid for entry in again.waiting()] == [flying[0].cid]
    assert flying[1].cid in {entry.cid for entry in again.claim(5)}


def test_recover_says_what_it_found(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool()
    for number in range(4):
        spool.put(an_item(number))
    spool.claim(1)
    spool.close()
    files = sorted((tmp_path / "spool" / "items").rglob("*.tkc"))
    files[0].unlink()
    stray = an_item(50)
    folder = tmp_path / "spool" / "items" / stray.cid[0]
    folder.mkdir(exist_ok=True)
    (folder / f"{stray.cid}.tkc.part").write_bytes(b"half")
    recovery = spool.recover()
    assert (recovery.items, recovery.released, recovery.quarantined, recovery.temporaries) == (3, 1, 1, 1)


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_index_is_built_anew_from_the_files(open_spool: Open, tmp_path: Path, content: bytes) -> None:
    spool = open_spool()
    items = [an_item(number, score=float(number)) for number in range(5)]
    for item in items:
        spool.put(item)
    spool.close()
    (tmp_path / "spool" / "index.sqlite").write_bytes(content)
    spool = Spool(tmp_path / "spool", SpoolSettings(), FakeClock())
    recovery = spool.recover()
    assert recovery.adopted == 5
    assert {entry.cid for entry in spool.claim(10)} == {item.cid for item in items}
    spool.close()


def test_spool_time_goes_on_over_a_restart_and_stands_still_over_a_reboot(open_spool: Open, clock: FakeClock) -> None:
    spool = open_spool()
    spool.put(an_item(1, ts_ns=clock.wall_ns()))
    spool.close()
    clock.advance(100)
    spool = open_spool()
    assert spool.stats().oldest_s == pytest.approx(100)
    spool.close()
    clock.reboot()
    assert open_spool().stats().oldest_s == pytest.approx(100)


def test_the_quarantine_is_bounded_and_what_it_gives_up_is_counted(open_spool: Open) -> None:
    spool = open_spool(max_bytes=1_000_000)
    for number in range(10):
        spool.put(an_item(number, size=30_000))
        spool.quarantine(an_item(number, size=30_000).cid, "rejected")
    stats = spool.stats()
    assert stats.quarantined + stats.evicted["quarantine"] == 10
    assert 1 <= stats.quarantined <= 3


def test_a_refused_put_says_what_where_and_what_to_do(
    open_spool: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool()

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("agent.durable.os.fsync", broken)
        with pytest.raises(SpoolFullError, match=rf"put: write {tmp_path}.*\.tkc: Input/output error; make room"):
            spool.put(an_item(1))
        stats = spool.stats()
        assert stats.degraded
        assert "Input/output error" in stats.degraded
        assert (stats.items, stats.refused) == (0, 1)
    assert spool.put(an_item(1))
    assert spool.stats().degraded is None


# Looking from outside


def test_a_listing_works_beside_the_running_spool_and_writes_nothing(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool()
    for number in range(3):
        spool.put(an_item(number))
    spool.claim(1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "spool").rglob("*")}
    listed = list(look.listing(tmp_path / "spool"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "spool").rglob("*")} == before
    assert len(listed) == 3


def test_a_listing_shows_committed_states_and_the_quarantine(
    open_spool: Open, tmp_path: Path, clock: FakeClock
) -> None:
    spool = open_spool()
    for number in range(3):
        spool.put(an_item(number, score=float(number)))
    (claimed,) = spool.claim(1)
    spool.quarantine(an_item(0).cid, "too large at the smallest chunk")
    clock.advance(6)
    spool.stats()
    by_cid = {entry.cid: entry for entry in look.listing(tmp_path / "spool")}
    assert by_cid[claimed.cid].state == "sending"
    assert by_cid[an_item(0).cid].state == "quarantine"
    assert by_cid[an_item(0).cid].reason == "too large at the smallest chunk"
    assert by_cid[an_item(1).cid].state == "ready"


def test_a_stopped_spool_is_listed_without_a_file_being_made(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool()
    spool.put(an_item(1))
    spool.close()
    before = set((tmp_path / "spool").rglob("*"))
    assert [entry.cid for entry in look.listing(tmp_path / "spool")] == [an_item(1).cid]
    assert set((tmp_path / "spool").rglob("*")) == before


def test_export_writes_pictures_with_their_metadata(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool()
    items = [an_item(number, classes=("person",)) for number in range(3)]
    for item in items:
        spool.put(item)
    assert look.export(tmp_path / "spool", tmp_path / "stick") == (3, {})
    assert look.export(tmp_path / "spool", tmp_path / "stick") == (3, {})
    for item in items:
        assert (tmp_path / "stick" / "images" / f"{item.cid}.jpg").read_bytes() == item.image
        kept = json.loads((tmp_path / "stick" / "meta" / f"{item.cid}.json").read_bytes())
        assert (kept["cid"], kept["sha256"], kept["size"]) == (item.cid, item.sha256, len(item.image))
        assert type(item.meta).model_validate(kept["meta"]) == item.meta


def test_verify_names_what_is_damaged_missing_or_unlisted(open_spool: Open, tmp_path: Path) -> None:
    spool = open_spool()
    items = [an_item(number) for number in range(4)]
    for item in items[:3]:
        spool.put(item)
    spool.close()
    paths = {item.cid: tmp_path / "spool" / "items" / item.cid[0] / f"{item.cid}.tkc" for item in items}
    paths[items[0].cid].write_bytes(paths[items[0].cid].read_bytes()[:-1])
    paths[items[1].cid].unlink()
    found = look.verify(tmp_path / "spool")
    assert list(found.damaged) == [items[0].cid]
    assert (found.items, found.missing) == (1, (items[1].cid,))


def test_one_item_can_be_read_from_outside(open_spool: Open, tmp_path: Path) -> None:
    spool, item = open_spool(), an_item(1)
    spool.put(item)
    assert look.read_item(tmp_path / "spool", item.cid) == item
    spool.quarantine(item.cid, "rejected")
    assert look.read_item(tmp_path / "spool", item.cid) == item
    with pytest.raises(ItemError, match="spool ls"):
        look.read_item(tmp_path / "spool", "../../etc/passwd")
