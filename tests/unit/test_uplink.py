"""The upload state machine, with the broker's and the collector's word in the test's hand."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import SpoolFullError
from agent.records import Item
from agent.settings import SpoolSettings, UplinkSettings
from agent.spool import Spool, listing
from agent.uplink import ROWS, Uplink
from agent.uplink.loop import AHEAD
from agent.wire import Ack, Topics
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.items import an_item
from tests.integration.delivery import wait_until


class Running:
    """An uplink in its thread, over a real spool, a broker in the test's hand, and a clock that the test moves."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = FakeClock()
        self.broker = FakeBroker()
        self.spool = Spool(folder, SpoolSettings(reserve_bytes=0), self.clock)
        self.uplink = Uplink(
            self.spool,
            self.broker.as_broker(),
            Topics("tk/v1", "gate-north"),
            settings=UplinkSettings(**{"start_spread_s": 0, **settings}),
            clock=self.clock,
            rng=random.Random(1),
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.uplink.run, args=(self._stop, 0.0))

    def __enter__(self) -> Running:
        self.spool.recover()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.uplink.wake()
        self._thread.join()
        self.spool.close()

    def put(self, *items: Item) -> None:
        for item in items:
            self.spool.put(item)
        self.uplink.wake()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.uplink.wake()

    def send(self) -> str:
        """Accept the parts of one item; its id."""
        part = self.broker.next()
        for _ in range(part.header.n - 1):
            part.accept()
            part = self.broker.next()
        part.accept()
        return part.header.cid

    def settle(self) -> None:
        """Until everything that happened so far is dealt with."""
        before = self.count("unknown")
        self.broker.receipt(Ack(cid="0" * 32, st="unknown"))
        wait_until(lambda: self.count("unknown") > before, "settled")

    def is_empty(self) -> bool:
        return self.spool.stats().items == 0

    def count(self, name: str) -> int:
        return self.uplink.counters["uplink_" + name]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as uplink:
        yield uplink


@pytest.mark.parametrize("word", ["stored", "duplicate"])
def test_an_item_is_forgotten_on_its_receipt_and_not_before(running: Running, word: Any) -> None:
    running.put(an_item())
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.spool.stats().sent == 1, "sent")
    assert not running.is_empty()
    running.broker.receipt(Ack(cid=cid, st=word))
    wait_until(running.is_empty, "forgotten")


def test_items_go_highest_value_first_and_a_few_at_a_time(running: Running) -> None:
    items = [an_item(number, score=float(number)) for number in range(1, 10)]
    running.put(*items)
    running.broker.up()
    sent = [running.send() for _ in range(ROWS)]
    assert sent[0] == items[-1].cid
    wait_until(lambda: running.count("sent") == ROWS, "sent")
    assert running.broker.candidates.empty()
    running.broker.receipt(Ack(cid=sent[0], st="stored"))
    assert running.send() not in sent


def test_while_receipts_are_waited_for_the_next_items_are_read_and_not_sent(running: Running) -> None:
    running.put(*(an_item(number) for number in range(12)))
    running.broker.up()
    for _ in range(ROWS):
        running.send()
    wait_until(lambda: len(running.uplink._rows) == ROWS + AHEAD, "read ahead")
    wait_until(lambda: running.count("sent") == ROWS, "sent")
    assert running.broker.candidates.empty()
    running.broker.down(dropped=False)
    wait_until(lambda: len(running.uplink._rows) == ROWS, "ready again")


def test_while_parts_wait_for_the_link_nothing_is_read_ahead(running: Running) -> None:
    running.broker.window = 2
    running.put(*(an_item(number, size=300_000) for number in range(8)))
    running.broker.up()
    running.broker.next()
    running.settle()
    assert len(running.uplink._rows) == ROWS


def test_a_large_item_goes_in_chunks_within_the_window(running: Running) -> None:
    running.broker.window = 2
    running.put(an_item(size=300_000))
    running.broker.up()
    first, second = running.broker.next(), running.broker.next()
    assert (first.header.i, second.header.i, first.header.n) == (0, 1, 5)
    assert running.broker.candidates.empty()
    first.accept()
    assert running.broker.next().header.i == 2


def test_no_receipt_in_time_means_a_question_first(running: Running) -> None:
    running.put(an_item())
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.count("sent") == 1, "sent")
    running.advance(61)
    assert running.broker.next_query() == (cid,)
    running.broker.receipt(Ack(cid=cid, st="stored"))
    wait_until(running.is_empty, "forgotten without being sent again")
    assert running.count("parts") == 1


def test_what_the_collector_does_not_know_is_sent_again(running: Running) -> None:
    running.put(an_item())
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.count("sent") == 1, "sent")
    running.advance(61)
    assert running.broker.next_query() == (cid,)
    running.broker.receipt(Ack(cid=cid, st="unknown"))
    assert running.send() == cid


def test_without_any_answer_it_is_asked_less_and_less_often_and_sent_again_at_last(running: Running) -> None:
    running.put(an_item())
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.count("sent") == 1, "sent")
    for asked, seconds in enumerate((60, 120, 240)):
        running.advance(seconds / 2 - 1)
        assert running.count("queries") == asked
        running.advance(seconds / 2 + 2)
        assert running.broker.next_query() == (cid,)
    running.advance(480)
    assert running.send() == cid
    assert "collector is away" in (running.broker.alerts["receipts"] or "")
    running.broker.receipt(Ack(cid=cid, st="stored"))
    wait_until(lambda: running.broker.alerts["receipts"] is None, "the alert is taken back")


def test_after_a_reconnect_what_was_sent_is_asked_for_and_not_sent(running: Running) -> None:
    running.put(an_item())
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.count("sent") == 1, "sent")
    running.broker.down()
    running.broker.up()
    assert running.broker.next_query() == (cid,)
    assert running.broker.candidates.empty()


def test_after_a_restart_what_was_sent_is_asked_for(tmp_path: Path) -> None:
    with Running(tmp_path) as before:
        before.put(an_item())
        before.broker.up()
        cid = before.send()
        wait_until(lambda: before.spool.stats().sent == 1, "sent")
    with Running(tmp_path) as after:
        after.broker.up()
        assert after.broker.next_query() == (cid,)
        after.broker.receipt(Ack(cid=cid, st="stored"))
        wait_until(after.is_empty, "forgotten")


def test_a_disconnect_makes_what_was_being_sent_ready_and_it_goes_on_with_what_is_missing(running: Running) -> None:
    running.broker.window = 1
    running.put(an_item(size=200_000))
    running.broker.up()
    running.broker.next().accept()
    half = running.broker.next()
    running.broker.down()
    wait_until(lambda: running.count("interrupted") == 1, "ready again")
    running.broker.up()
    again = running.broker.next()
    assert (again.header.cid, again.header.i) == (half.header.cid, half.header.i)


def test_only_the_missing_parts_are_sent_again_on_a_partial_receipt(running: Running) -> None:
    running.put(an_item(size=300_000))
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.count("sent") == 1, "sent")
    running.broker.receipt(Ack(cid=cid, st="partial", missing=(1, 3)))
    assert [running.broker.next().header.i for _ in range(2)] == [1, 3]


def test_a_collector_that_only_ever_says_partial_is_not_sent_to_without_pause(running: Running) -> None:
    running.put(an_item())
    running.broker.up()
    for times in range(1, 5):
        cid = running.send()
        wait_until(lambda times=times: running.count("sent") == times, "sent")  # type: ignore[misc]
        running.broker.receipt(Ack(cid=cid, st="partial"))
    wait_until(lambda: running.count("partial") == 4, "heard")
    running.advance(1)
    assert running.broker.candidates.empty()
    running.advance(60)
    assert running.send() == cid


def test_a_rejected_item_goes_to_quarantine_with_the_reason(running: Running, tmp_path: Path) -> None:
    running.put(an_item())
    running.broker.up()
    running.broker.receipt(Ack(cid=running.send(), st="rejected", why="it is blue"))
    wait_until(lambda: running.spool.stats().quarantined == 1, "quarantined")
    assert [entry.reason for entry in listing(tmp_path)] == ["rejected by the collector: it is blue"]


def test_the_collector_may_ask_for_patience(running: Running) -> None:
    running.put(an_item())
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.count("sent") == 1, "sent")
    running.broker.receipt(Ack(cid=cid, st="unknown", retry_after=300))
    wait_until(lambda: running.count("unknown") == 1, "heard")
    running.advance(299)
    assert running.broker.candidates.empty()
    running.advance(2)
    assert running.send() == cid


def test_a_slow_collector_gets_one_item_at_a_time(running: Running) -> None:
    running.put(*(an_item(number) for number in range(6)))
    running.broker.up()
    sent = [running.send() for _ in range(ROWS)]
    wait_until(lambda: running.count("sent") == ROWS, "sent")
    running.broker.receipt(*(Ack(cid=cid, st="stored") for cid in sent), slow=True)
    sent = [running.send()]
    wait_until(lambda: running.count("sent") == ROWS + 1, "sent")
    assert running.broker.candidates.empty()


def test_what_the_broker_refuses_for_good_is_quarantined(running: Running) -> None:
    running.put(an_item())
    running.broker.up()
    running.broker.next().refuse(0x99, "payload format invalid")
    wait_until(lambda: running.spool.stats().quarantined == 1, "quarantined")


def test_an_acl_that_forbids_uploads_pauses_them_and_costs_no_item(running: Running) -> None:
    running.put(*(an_item(number) for number in range(6)))
    running.broker.up()
    first = [running.broker.next() for _ in range(4)]
    for part in first:
        part.refuse(0x87, "Not authorized")
    wait_until(lambda: running.count("refused") == 4, "heard")
    assert "Not authorized" in (running.broker.alerts["uploads"] or "")
    assert running.broker.candidates.empty()
    assert running.spool.stats().quarantined == 0
    running.advance(10)
    running.send()
    wait_until(lambda: running.broker.alerts["uploads"] is None, "the alert is taken back")


def test_too_large_for_the_broker_at_any_size_is_quarantined(running: Running) -> None:
    running.put(an_item(size=500_000))
    running.broker.up(max_packet=2_000)
    wait_until(lambda: running.spool.stats().quarantined == 1, "quarantined")


def test_three_disconnects_blamed_on_one_item_quarantine_it_and_the_others_arrive(running: Running) -> None:
    good, poison = an_item(1, score=1), an_item(2, score=9)
    running.put(good, poison)
    for _ in range(4):  # the first makes it suspect
        running.broker.up()
        if (part := running.broker.next()).header.cid == good.cid:
            part.accept()
            running.broker.next()
        running.broker.down(dropped=True)
    wait_until(lambda: running.spool.stats().quarantined == 1, "quarantined")
    running.broker.up()
    running.broker.receipt(Ack(cid=good.cid, st="stored"))
    wait_until(running.is_empty, "the other one arrived")


def test_a_broker_that_drops_everything_costs_no_more_than_one_item(running: Running) -> None:
    running.put(*(an_item(number) for number in range(5)))
    for _ in range(40):
        running.broker.up()
        running.settle()
        running.advance(3_600)
        running.broker.next()
        running.broker.down(dropped=True)
        running.settle()
    assert running.spool.stats().quarantined <= 1
    assert "drops every upload" in (running.broker.alerts["uploads"] or "")


def test_brokers_that_restart_are_nobodys_fault(running: Running) -> None:
    running.put(*(an_item(number, size=200_000) for number in range(3)))
    for _ in range(8):
        running.broker.up()
        running.broker.next().accept()
        running.broker.next()
        running.broker.down(dropped=True)
        running.settle()
    assert running.spool.stats().quarantined == 0


def test_bytes_per_second_are_held_on_average(tmp_path: Path) -> None:
    with Running(tmp_path, bytes_per_s=1_000) as running:
        running.put(*(an_item(number, size=20_000) for number in range(3)))
        running.broker.up()
        running.broker.next()
        assert running.broker.candidates.empty()
        running.advance(20)
        assert running.broker.candidates.empty()
        running.advance(2)
        running.broker.next()
        assert running.broker.candidates.empty()


def test_nothing_is_sent_in_quiet_hours_while_paused_or_before_the_start_delay(tmp_path: Path) -> None:
    with Running(tmp_path, quiet_hours="00:00-24:00") as running:
        running.put(an_item())
        running.broker.up()
        running.advance(1)
        running.uplink.paused = True
        running.uplink.apply(UplinkSettings(start_spread_s=0))
        running.advance(1)
        running.uplink.paused = False
        running.uplink.apply(UplinkSettings(paused=True))
        running.advance(1)
        assert running.broker.candidates.empty()
        running.uplink.apply(UplinkSettings(start_spread_s=0))
        running.send()
        running.broker.down()
        running.uplink.apply(UplinkSettings(start_spread_s=1000))
        running.put(an_item(2))
        running.broker.up()
        running.settle()
        assert running.broker.candidates.empty()
        running.uplink.flush()
        running.broker.next()


def test_the_age_limit_holds_while_nobody_can_be_reached(running: Running) -> None:
    running.put(an_item())
    running.advance(SpoolSettings().max_age_s + 60)
    wait_until(running.is_empty, "what is too old is gone")
    assert running.spool.stats().evicted == {"age": 1}


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b'{"v":1,"acks":[{"cid":"x","st":"stored"}]}'])
def test_a_broken_receipt_is_counted_and_changes_nothing(running: Running, payload: bytes) -> None:
    running.put(an_item())
    running.broker.up()
    cid = running.send()
    running.broker.raw_receipt(payload)
    assert running.count("bad_receipts") == 1
    running.broker.receipt(Ack(cid="f" * 32, st="stored"), Ack(cid=cid, st="stored"))
    wait_until(running.is_empty, "forgotten")


def test_a_receipt_that_the_disk_did_not_take_is_asked_for_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(cid: str) -> None:
        monkeypatch.undo()
        raise SpoolFullError(f"no room to forget {cid}")

    running.put(an_item())
    running.broker.up()
    cid = running.send()
    wait_until(lambda: running.spool.stats().sent == 1, "sent")
    monkeypatch.setattr(running.spool, "forget", full)
    running.broker.receipt(Ack(cid=cid, st="stored"))
    running.settle()
    assert not running.is_empty()
    running.advance(61)
    assert running.broker.next_query() == (cid,)
    running.broker.receipt(Ack(cid=cid, st="stored"))
    wait_until(running.is_empty, "forgotten")


def test_a_damaged_item_is_set_aside_and_the_next_one_goes(running: Running, tmp_path: Path) -> None:
    damaged, good = an_item(1, score=9), an_item(2, score=1)
    running.put(damaged, good)
    (path,) = tmp_path.rglob(f"{damaged.cid}*")
    path.write_bytes(path.read_bytes()[:-100])
    running.broker.up()
    assert running.send() == good.cid
    wait_until(lambda: running.spool.stats().quarantined == 1, "quarantined")
