"""The spool: a local, crash-safe queue between a call and the event broker. It stores opaque bytes.

Layout under the root: `<folder>/NNNNNNNN.seg`, `<folder>/cursor`, `<folder>/.lock`, and `rejected/`. A folder belongs
to the process that locks it; when that dies, any other adopts the folder, relays what is left and removes it.
"""

from kit.spool.ledger import Usage
from kit.spool.options import SpoolOptions, SpoolUnusable
from kit.spool.publisher import ACKNOWLEDGED, Acknowledged, Observer, Outcome, Publisher, Rejected
from kit.spool.record import Call, Event, Record
from kit.spool.replay import replay
from kit.spool.spool import Spool

__all__ = [
    "ACKNOWLEDGED",
    "Acknowledged",
    "Call",
    "Event",
    "Observer",
    "Outcome",
    "Publisher",
    "Record",
    "Rejected",
    "Spool",
    "SpoolOptions",
    "SpoolUnusable",
    "Usage",
    "replay",
]
