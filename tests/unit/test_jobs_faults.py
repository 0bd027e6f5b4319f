"""The short form of the fault runs: each once, at moments drawn by one seed. The long form: `python -m tests.faults`.

What needs still more servers, such as a Ctrl-C or a second dashboard, is left to the long form.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.disks import CannotRun
from tests.faults.runs import FAULTS, Fault, ctrl_c, newer_database, second_dashboard
from tests.faults.stream import RATE, WORKERS, stream
from tests.faults.world import world

pytestmark = pytest.mark.slow
SHORT = [fault for fault in FAULTS if fault not in (ctrl_c, second_dashboard, newer_database)]


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.__name__)
def test_whatever_is_done_nothing_is_lost_doubled_stuck_or_left_over(fault: Fault, tmp_path: Path) -> None:
    with world(tmp_path, seed=0) as made:
        try:
            fault(made)
        except CannotRun as error:
            pytest.skip(str(error))


def test_three_workers_at_a_hundred_events_a_second_are_taken_in_whole(tmp_path: Path) -> None:
    with world(tmp_path, seed=0) as made:
        told = stream(made, 3)
    assert told.events >= 3 * RATE * WORKERS
