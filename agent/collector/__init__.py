"""The other end: candidates come in over MQTT, are verified, stored once, receipted; and what people say of them."""

from agent.collector.labels import LabelStore, labels, read_label
from agent.collector.revisions import LABEL_STATES, TRUTH, Drawn, LabelState, Revision
from agent.collector.service import CollectorService
from agent.collector.stick import bring
from agent.collector.store import devices, image_path, listing, meta_path, read_meta

__all__ = [
    "LABEL_STATES",
    "TRUTH",
    "CollectorService",
    "Drawn",
    "LabelState",
    "LabelStore",
    "Revision",
    "bring",
    "devices",
    "image_path",
    "labels",
    "listing",
    "meta_path",
    "read_label",
    "read_meta",
]
