"""A worker process that a test kills at any instant: leases, works for a moment, writes its result, completes.

python worker.py URL NAME
"""

from __future__ import annotations

import random
import sys
import time

from autorl_bench.store import LeaseLost, open_store


def main() -> None:
    """Works until it is killed."""
    url, name = sys.argv[1:]
    store = open_store(url)
    print("ready", flush=True)
    while True:
        with store.write() as tx:
            lease = tx.queue.lease(["grade"], worker=name, seconds=1.0)
        if lease is None:
            print("idle", flush=True)  # who waits for a line must not wait for ever
            time.sleep(0.05)
            continue
        print(lease.job.id, flush=True)
        time.sleep(random.uniform(0, 0.2))
        try:
            with store.write() as tx:
                tx.ledger.note("result", actor=name, run_id=lease.job.run_id, detail={"job": lease.job.id})
                tx.queue.complete(lease, {"by": name})
        except LeaseLost:
            pass


if __name__ == "__main__":
    main()
