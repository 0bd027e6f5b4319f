"""How long a person waits for the pages: `python -m benchmarks.pages_under_load`.

load    three workers tell a hundred events a second each, while somebody clicks around: click to new content (p95)
store   five hundred runs of 2,000 numbers each in the database: navigation to the first content of the runs' page

The real server, a real Chromium, a cache of its own; on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import timeit
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from playwright.sync_api import Browser, sync_playwright

from benchmarks.person import FLAGS, TABLE, Person, Took, headline, until
from benchmarks.telling import numbers
from sts_core.cli.app import streamlit_arguments
from sts_core.folders import PROJECT, jobs
from sts_core.jobs import launch, watch
from sts_core.jobs.events import EVENTS, append_event, read_events
from sts_core.jobs.folder import ENDED, create
from sts_core.store.reading import read

os.environ["STS_DEMO_RUNS"] = "0"  # the runs that ship are no part of what is counted here
WORKER = Path(__file__).with_name("telling.py")
SERVER = PROJECT / "tests" / "faults" / "dashboard.py"
A_STEP = 5
"""Numbers a step tells."""
GOAL_CLICK, GOAL_OPEN = 300.0, 1_000.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked, and print it as Markdown; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages_under_load", description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default="load,store", help="which of the two")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100, help="events a second of each worker")
    parser.add_argument("--seconds", type=float, default=60, help="how long they tell")
    parser.add_argument("--runs", type=int, default=500, help="finished runs in the store")
    parser.add_argument("--numbers", type=int, default=2_000, help="rows of numbers of each of them")
    parser.add_argument("--opens", type=int, default=10, help="how often the runs' page is opened")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    print(f"{machine(asked.seed)}\n")
    held = True
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        if "load" in asked.parts:
            held &= under_load(chromium, asked)
        if "store" in asked.parts:
            held &= with_many_runs(chromium, asked)
        chromium.close()
    return 0 if held else 1


def under_load(chromium: Browser, asked: argparse.Namespace) -> bool:
    """Somebody clicks around while the workers tell; whether 95 of 100 answers came in time and nothing was lost."""
    with own_cache() as cache, served(cache) as (url, server):
        kept_runs(5, 60 * A_STEP, random.Random(asked.seed))
        spec = {"steps": round(asked.seconds * asked.rate), "rate": asked.rate, "target": {"data": "gsm-symbolic"}}
        page = chromium.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        somebody = Person(page, url, random.Random(asked.seed))
        until(lambda: counted("jobs") == 5, page, 60, "the finished runs are in the store")
        somebody.open("runs", headline("5 runs are kept"))  # compiles and loads what the first visit ever does
        ordered = [
            launch.start("sft", spec | {"seed": i}, f"run {i}", {"device": f"cuda:{i}"}) for i in range(asked.workers)
        ]
        until(lambda: all(watch.read(job).state == "running" for job in ordered), page, 30, "all run")
        rows = 5 + asked.workers
        until(lambda: kept_running() == asked.workers, page, 30, "the store knows that all run")
        somebody.open("runs", headline(f"{asked.workers} are under way"))
        somebody.pause()
        began, before = time.monotonic(), used(server)
        while time.monotonic() - began < asked.seconds and any(watch.read(j).state not in ENDED for j in ordered):
            somebody.look_at_runs(rows)
            somebody.open_a_run(asked.workers)
            somebody.look_at_shifted()
        busy, over = used(server) - before, time.monotonic() - began
        until(lambda: all(watch.read(job).state in ENDED for job in ordered), page, 120, "all end")
        told = sum(len(read_events(watch.read(job).folder)) for job in ordered)
        until(lambda: events_of(ordered) >= told, page, 60, "all events are in")
        lost = told - events_of(ordered)
        print(
            f"## {asked.workers} workers × {asked.rate:.0f} events a second: {told:,} events, {lost} lost or doubled\n"
        )
        print(f"The server used {busy:.1f} s of processor in {over:.0f} s, {len(somebody.took)} clicks among them.\n")
        return table_of(somebody.took) <= GOAL_CLICK and lost == 0


def with_many_runs(chromium: Browser, asked: argparse.Namespace) -> bool:
    """The runs' page is opened again and again; whether its first content came in time."""
    with own_cache() as cache:
        kept_runs(asked.runs, asked.numbers, random.Random(asked.seed))
        with served(cache) as (url, _):
            page = chromium.new_context(viewport={"width": 1440, "height": 1000}).new_page()
            wanted = asked.numbers * asked.runs
            until(lambda: counted("metrics") == wanted, page, 600, "all numbers are in the store")
            print(f"## {asked.runs} runs × {asked.numbers:,} numbers in the store\n")
            took: list[Took] = []
            for number in range(asked.opens + 1):
                first = " (the first ever)" if number == 0 else ""
                for what, seen in (("title", headline("runs are kept")), ("table", f"!!{TABLE}")):
                    context = chromium.contexts[-1]
                    tab = context.new_page()
                    somebody = Person(tab, url, random.Random(number))
                    took.append(Took(f"navigation to {what}{first}", somebody.open("runs", seen)))
                    somebody.pause()
                    tab.close()
            table_of(took)
            later = [one.milliseconds for one in took if "title" in one.what and "ever" not in one.what]
            return quantile(later, 0.95) <= GOAL_OPEN


def machine(seed: int) -> str:
    """Where and when, how busy it was before, and how fast it is at what a page costs: plain Python."""
    busy = os.getloadavg()[0]
    turns = min(timeit.repeat("total = 0\nfor turn in range(1_000_000): total += turn", number=1, repeat=5))
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, seed {seed}, load "
        f"before it {busy:.2f}; a Python loop of a million turns takes {1000 * turns:.0f} ms"
    )


def table_of(took: Sequence[Took]) -> float:
    """Print what each took; the p95 of all."""
    print("| what | n | p50, ms | p95, ms | longest, ms |\n|---|---:|---:|---:|---:|")
    for what in [*dict.fromkeys(one.what for one in took), "all"]:
        values = [one.milliseconds for one in took if what in (one.what, "all")]
        print(f"| {what} | {len(values)} | {quantile(values, 0.5):.0f} | {quantile(values, 0.95):.0f} | "
              f"{max(values):.0f} |")  # fmt: skip
    print()
    return quantile([one.milliseconds for one in took], 0.95)


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that so large a share does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextmanager
def own_cache() -> Iterator[Path]:
    """A cache that this process and all it starts have for themselves."""
    before, worker = os.environ.get("STS_CACHE"), launch.WORKER
    with tempfile.TemporaryDirectory(prefix="pages-") as folder:
        os.environ["STS_CACHE"], launch.WORKER = folder, (str(WORKER),)
        if (PROJECT / "cache" / "bundle").is_dir():
            (Path(folder) / "bundle").symlink_to(PROJECT / "cache" / "bundle")
        try:
            yield Path(folder)
        finally:
            for job in watch.active():
                watch.cancel(job.id, patience=0)
            launch.WORKER = worker
            os.environ.pop("STS_CACHE")
            if before is not None:
                os.environ["STS_CACHE"] = before


@contextmanager
def served(cache: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The real dashboard on this cache, its workers but ours."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [str(SERVER), str(WORKER), *streamlit_arguments(port, "127.0.0.1")[2:]]
    with (cache / "server.txt").open("wb") as log:
        server = subprocess.Popen([sys.executable, *arguments], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log)  # fmt: skip
    try:
        for _ in range(600):
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as said,
            ):
                if said.read() == b"ok":
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", psutil.Process(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def kept_runs(many: int, rows: int, draw: random.Random) -> None:
    """Finished runs as their workers leave them."""
    ended = datetime.now(UTC)
    jobs()
    for number in range(many):
        spec = {"model": "smollm2-135m-instruct", "learning_rate": draw.choice([1e-4, 2e-4, 5e-4]), "method": "lora",
                "steps": rows // A_STEP, "batch": 8, "seed": number, "target": {"data": "gsm-symbolic"}}  # fmt: skip
        began = (ended - timedelta(seconds=draw.randrange(60, 6_000))).isoformat()
        steps = rows // A_STEP
        folder = create(
            {"kind": "sft", "title": f"sweep {number}", "spec": spec, "options": {}},
            {"state": "done", "started": began, "ended": ended.isoformat(), "done": steps, "total": steps,
             "unit": "steps", "stage": "training"},
        )  # fmt: skip
        append_event(folder, "created", kind="sft", title=f"sweep {number}")
        with (folder / EVENTS).open("a") as file:
            for step in range(1, steps + 1):
                line = {"seq": step + 1, "time": began, "event": "step", **numbers(step, steps, draw)}
                file.write(json.dumps(line) + "\n")


def counted(table: str) -> int:
    """Rows of a table, as its owner's copy has them."""
    with read() as view:
        row = view.connection.execute(f"select count(*) from {table}").fetchone()
    return int(row[0]) if row else 0


def used(server: psutil.Process) -> float:
    """Seconds of processor: what it costs, whoever else works on the machine."""
    times = server.cpu_times()
    return float(times.user + times.system)


def kept_running() -> int:
    """Runs that run, as the owner's copy has them."""
    with read() as view:
        row = view.connection.execute("select count(*) from jobs where state = 'running'").fetchone()
    return int(row[0]) if row else 0


def events_of(ordered: Sequence[str]) -> int:
    """Events of these jobs that are in the database, each counted once."""
    with read() as view:
        row = view.connection.execute("select count(*) from events where list_contains(?, job)", [list(ordered)])
        found = row.fetchone()
    return int(found[0]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
