"""The spool: the device's durable store of items between selection and the collector's receipt.

Files hold the items, an index in SQLite holds their turn. The rules:

- Files are immutable, written once with the recipe of `agent.durable`, and describe themselves.
- A file is durable before its row. So `put` is durable with the file, and the row may follow with the next commit.
- A row goes (committed) before its file, except that on a full disk the file goes first. What is delivered before its
  row was ever committed needs no commit at all. Files of delivered items are removed sixteen at a time, or within ten
  minutes; until then they are bytes of the spool and seen by whoever looks at its files from outside.
- Ids are stable: the same item put twice is one item.
- Size is bounded: items, quarantine, index and reserve together stay within ``max_bytes``.
- What is given up, and in which order, is written in `agent.spool.value`; each eviction is counted by reason. An item
  in flight (sending, sent) is never evicted.
- `Spool.recover` runs at every start and deletes nothing undelivered in silence: damage goes to the quarantine.

    spool/
      items/a/<cid>.tkc         one item each
      quarantine/<cid>.tkc      with <cid>.tkc.json saying why
      index.sqlite              rebuilt from the items where it is damaged or lost
      reserve                   room for the index on a full disk
"""

from agent.spool.entry import Entry, Recovery, SpoolStats, State, Verification
from agent.spool.look import export, listing, read_item, verify
from agent.spool.spool import Spool

__all__ = [
    "Entry",
    "Recovery",
    "Spool",
    "SpoolStats",
    "State",
    "Verification",
    "export",
    "listing",
    "read_item",
    "verify",
]
