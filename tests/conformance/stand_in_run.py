"""A process that stands in for a training run. Its run.json says what to do.

    python stand_in_run.py RUN_FILE

`exit` and `die` end at once with a code or by a signal. `work` goes on until SIGTERM, writes the
file `stopped`, and exits with 75. `save` does so too, but ends only when the file `saved` appears,
and with 9 on a second SIGTERM. `stubborn` ignores SIGTERM. `family` is stubborn and starts
children in sessions of their own, which have children again; `orphans` does the same and exits with
3. Each process leaves a file named by its pid in the folder `pids`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

CHILDREN = 2
FAMILY = 1 + CHILDREN + CHILDREN * CHILDREN


def main() -> None:
    run_file = Path(sys.argv[1])
    folder = run_file.parent
    asked = json.loads(run_file.read_text())
    sys.stdout.write(f"doing {asked['do']}, OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}\n")
    sys.stderr.write("and this is an error\n")
    what = asked["do"]
    if what == "exit":
        appear(folder)
        sys.exit(asked["code"])
    if what == "die":
        appear(folder)
        os.kill(os.getpid(), getattr(signal, asked["signal"]))
    if what == "work":
        signal.signal(signal.SIGTERM, lambda signum, frame: stopped(folder))
        appear(folder)
        sleep_for_ever()
    if what == "save":
        signal.signal(signal.SIGTERM, lambda signum, frame: save(folder))
        appear(folder)
        sleep_for_ever()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if what in ("family", "orphans"):
        have_children(folder, generations=2)
    appear(folder)
    if what == "orphans":
        wait_for_family(folder)
        sys.exit(3)
    sleep_for_ever()


def appear(folder: Path) -> None:
    pids = folder / "pids"
    pids.mkdir(exist_ok=True)
    (pids / str(os.getpid())).touch()


def stopped(folder: Path) -> None:
    (folder / "stopped").touch()
    sys.exit(75)


def save(folder: Path) -> None:
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(9))
    (folder / "stopped").touch()
    while not (folder / "saved").exists():
        time.sleep(0.005)
    sys.exit(75)


def have_children(folder: Path, generations: int) -> None:
    for _ in range(CHILDREN):
        if os.fork() == 0:
            os.setsid()
            if generations > 1:
                have_children(folder, generations - 1)
            appear(folder)
            sleep_for_ever()


def wait_for_family(folder: Path) -> None:
    while len(list((folder / "pids").iterdir())) < FAMILY:
        time.sleep(0.005)


def sleep_for_ever() -> None:
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
