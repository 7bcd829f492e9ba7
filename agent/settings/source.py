"""What a camera's source may say in public."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

URL = re.compile(r"^(rtsps?|https?|rtmps?|udp|tcp|rtp)://", re.IGNORECASE)


def shown_source(source: str) -> str:
    """The source as logs, listings and reports may show it: a URL without password and query."""
    if not URL.match(source):
        return source
    parts = urlsplit(source)
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{host}" if user else host
    return urlunsplit((parts.scheme, netloc, parts.path, "..." if parts.query else "", ""))
