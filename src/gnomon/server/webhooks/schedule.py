"""When a message that was not taken is sent again."""

from __future__ import annotations

import math
import random
from email.utils import parsedate_to_datetime

DELAYS_S = (0.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10_800.0, 21_600.0, 43_200.0)
"""Before each try; after the last one, about a day later, the message is dead."""

JITTER = 0.1
"""Delays vary by this share, so that messages which failed together do not come back together."""

LONGEST_RETRY_AFTER_S = 43_200.0
"""A receiver may ask for a longer pause than ours, up to this one."""


def delay_s(tries: int, retry_after_s: float | None = None) -> float | None:
    """Seconds from the last of so many failed tries to the next one; None when there is none any more."""
    if tries >= len(DELAYS_S):
        return None
    wanted = min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
    return max(DELAYS_S[tries] * random.uniform(1 - JITTER, 1 + JITTER), wanted)


def retry_after_s(header: str | None, now: float) -> float | None:
    """The pause that a Retry-After header asks for: seconds, or until a date. None for anything else."""
    if header is None:
        return None
    try:
        wanted = float(header) if header.strip().isdecimal() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return None
    return wanted if math.isfinite(wanted) and wanted > 0 else None
