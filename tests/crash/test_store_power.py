"""The collector's store when the power goes the moment that it has answered (root)."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest

from agent.collector import image_path, listing, read_meta
from agent.collector.index import StoreError
from agent.collector.store import Store
from tests.fakes.clock import FakeClock
from tests.fakes.disks import ext4, needs_root
from tests.fakes.items import an_item

pytestmark = [needs_root, pytest.mark.root]


@pytest.mark.parametrize("rows", [True, False], ids=["with its rows", "before its rows"])
def test_a_batch_that_was_written_survives_the_power_cut(tmp_path: Path, *, rows: bool) -> None:
    """Ten times a batch on a disk that keeps only what it was told to; without rows the files are adopted."""
    promised = {}
    with ext4(tmp_path) as disk:
        folder = disk.mounted / "store"
        for cut in range(10):
            batch = [an_item(4 * cut + number, size=20_000) for number in range(4)]
            with contextlib.closing(Store(folder, FakeClock())) as store:
                store.write(batch)
                if rows:
                    store.add(batch, {})
                promised.update({item.cid: item.sha256 for item in batch})
                disk.cut_power()
                with contextlib.suppress(StoreError):
                    store.close()
            disk.unmount()
            disk.mount()
        Store(folder, FakeClock()).close()
        assert {row["cid"] for row in listing(folder)} == set(promised)
        for cid, sha256 in promised.items():
            assert hashlib.sha256((folder / image_path(cid)).read_bytes()).hexdigest() == sha256
            assert read_meta(folder, cid) is not None
