"""Completion as a shell asks for it."""

from __future__ import annotations

import pytest
from tests.unit.cli.fake_server import FakeTrainer

from corral.cli.main import run


def offered(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What bash is told, for a word after `line`."""
    words = f"corral {line}".split(" ")
    monkeypatch.setenv("_CORRAL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        run([])
    return capsys.readouterr().out.split()


@pytest.fixture(autouse=True)
def _server(corral: object) -> None:
    """The fake services, which CORRAL_SERVER names."""


def test_jobs_are_offered_by_the_beginning_of_their_id(
    trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.add_job("job-12")
    trainer.add_job("job-34")

    assert offered("jobs watch job-1", monkeypatch, capsys) == ["job-12"]


def test_models_are_offered_with_their_jobs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offered("models show job", monkeypatch, capsys) == ["job-1", "job-1@best"]
    assert offered("models show g", monkeypatch, capsys) == ["gpt2"]


def test_without_a_server_nothing_is_offered_and_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORRAL_SERVER", "127.0.0.1:1")

    assert offered("jobs watch ", monkeypatch, capsys) == []
    assert capsys.readouterr().err == ""
