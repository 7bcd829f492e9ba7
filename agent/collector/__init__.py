"""The other end: candidates come in over MQTT, are verified, stored once, and receipted."""

from agent.collector.service import CollectorService
from agent.collector.store import devices, image_path, listing, meta_path, read_meta

__all__ = ["CollectorService", "devices", "image_path", "listing", "meta_path", "read_meta"]
