"""A process that tells a receiver of jobs until it is killed: python webhook_sending.py HOME URL FIRST COUNT."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from webhook_receiver import ROW, ended

from gnomon.server.webhooks import Webhooks


async def send(home: Path, url: str, first: int, count: int) -> None:
    webhooks = Webhooks(home, allow_private=True)
    webhooks.start()
    for number in range(first, first + count):
        # As the engine does: from a thread of its own.
        await asyncio.to_thread(webhooks.announce, ended(number), ROW, {"webhook_url": url})
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(send(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
