"""The agent: a small process that keeps passing while jobs of this home are unfinished, then leaves.

    python -m gnomon.agent HOME

Every command that leaves unfinished jobs behind starts it unless it or a server runs already. Killing it loses
nothing: the next command, or the end of a running job, starts another.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from gnomon.executors import agent_lock

log = logging.getLogger(__name__)

PASS_INTERVAL_S = 0.5


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = Path(arguments[0])
    with agent_lock.held(home) as mine:
        if mine:
            _pass_until_done(home)
    return 0


def _pass_until_done(home: Path) -> None:
    from gnomon.index import open_index
    from gnomon.reconcile import Reconciler

    with open_index(home) as index:
        reconciler = Reconciler(home, index)
        while reconciler.run_pass().unfinished and not agent_lock.is_served(home):
            time.sleep(PASS_INTERVAL_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
