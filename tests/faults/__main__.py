"""Do to jobs and dashboards what life does: `python -m tests.faults --rounds 20`.

Every round does each fault once in a cache of its own, at moments drawn by chance; `--seed` draws them again. After
each, nothing may be lost, doubled, stuck or left over (`world.sound`). Exit 1 at the first that does not hold.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.disks import CannotRun
from tests.faults.runs import FAULTS
from tests.faults.stream import stream
from tests.faults.world import world


def main(arguments: list[str] | None = None) -> int:
    """Run the rounds; the exit status."""
    names = [fault.__name__ for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="how often each fault is done")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments of the first round")
    parser.add_argument("--only", choices=names, action="append", help="one fault alone; may be repeated")
    parser.add_argument("--stream", type=float, default=60, metavar="SECONDS", help="how long the stream runs; 0: not")
    asked = parser.parse_args(arguments)
    # A shell lets what it starts in the background ignore SIGINT, and so would the dashboards started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in range(asked.seed, asked.seed + asked.rounds):
        for fault in FAULTS:
            if asked.only and fault.__name__ not in asked.only:
                continue
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="faults-") as folder, world(Path(folder), number) as made:
                try:
                    fault(made)
                    word = "held"
                except CannotRun as error:
                    word = f"not run: {error}"
                except AssertionError:
                    traceback.print_exc()
                    say(f"seed {number}  {fault.__name__}: DID NOT HOLD")
                    return 1
            say(f"seed {number}  {fault.__name__}: {word}, {time.monotonic() - began:.1f} s")
    if asked.stream and not asked.only:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder, world(Path(folder), asked.seed) as made:
            told = stream(made, asked.stream)
        say(
            f"stream: {told.events} events in {told.seconds:.1f} s, all in {told.behind:.2f} s after the end; "
            f"95 of 100 questions answered within {1000 * told.slowest:.0f} ms"
        )
    return 0


def say(words: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
