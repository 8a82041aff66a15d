"""Lines that a run printed, as events carry them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.trainer.worker.loglines import (
    LONGEST_LINE,
    MOST_LINES_AT_ONCE,
    TAIL_LINES,
    clean_line,
    clean_lines,
    log_tail,
    rank_was_killed,
)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m text", "red text"),
        ("\x1b]0;title\x07after", "after"),
        ("10%\r55%\r100%", "100%"),
        ("100%\r", "100%"),
        ("bell\x07 null\x00", "bell null"),
        ("tab\tstays", "tab\tstays"),
        ("   ", ""),
    ],
)
def test_a_line_is_as_a_terminal_would_leave_it(raw: str, shown: str) -> None:
    assert clean_line(raw) == shown


def test_a_long_line_is_cut_and_says_so() -> None:
    cut = clean_line("x" * 10_000)
    assert len(cut) == LONGEST_LINE
    assert cut.endswith("…")


def test_few_lines_are_all_kept_and_empty_ones_left_out() -> None:
    assert clean_lines(["a", "", "b"]) == ["a", "b"]


def test_of_many_lines_the_first_and_the_last_are_kept() -> None:
    lines = clean_lines([str(n) for n in range(1000)])
    assert (lines[0], lines[-1]) == ("0", "999")
    assert len(lines) == MOST_LINES_AT_ONCE + 1
    assert f"{1000 - MOST_LINES_AT_ONCE} lines left out" in lines[MOST_LINES_AT_ONCE // 2]


def test_a_tail_has_the_last_lines_and_the_unfinished_one(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"line {n}\n" for n in range(20_000)) + "Segmentation fau")
    tail = log_tail(log)
    assert len(tail) == TAIL_LINES
    assert tail[-2:] == ("line 19999", "Segmentation fau")


def test_a_short_log_keeps_its_first_line(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"only \xff line\n")
    assert log_tail(log) == ("only � line",)


def test_no_log_is_an_empty_tail(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "log.txt") == ()


def test_torchruns_own_report_of_a_failed_rank_does_not_push_out_what_the_rank_said(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.txt"
    report = (
        "E1124 09:23:24.471000 9711 torch/distributed/elastic/multiprocessing/api.py:1002] failed"
    )
    log.write_text("\n".join(["loading", "error: no space", report, *["Traceback"] * 60]))
    assert log_tail(log) == ("loading", "error: no space")


@pytest.mark.parametrize(("exit_code", "killed"), [("-9", True), ("-15", False), ("1", False)])
def test_what_torchrun_says_of_a_killed_process_is_found(
    tmp_path: Path, exit_code: str, killed: bool
) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "step 3\n"
        "E1124 12:16:28.281000 17811 torch/distributed/elastic/multiprocessing/api.py:1002] failed"
        f" (exitcode: {exit_code}) local_rank: 1 (pid: 17815) of binary: python\n"
        f"  exitcode  : {exit_code} (pid: 17815)\n"
    )
    assert rank_was_killed(log) is killed
    assert log_tail(log) == ("step 3",)


def test_a_run_without_a_log_had_nobody_killed(tmp_path: Path) -> None:
    assert not rank_was_killed(tmp_path / "log.txt")
