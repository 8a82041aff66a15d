"""The parts of a job's page, each of which draws itself anew from what is known.

Knows nothing of how events arrive.
"""

from __future__ import annotations

from nicegui import ui

from corral import formatting
from corral.gateway.console import charts, words
from corral.gateway.console.charts import Series
from corral.gateway.console.elements import (
    Cell,
    Column,
    box,
    button,
    card,
    facts,
    heading,
    pill,
    table,
    text,
    track,
)
from corral.gateway.console.job_history import History
from corral.v1 import trainer_pb2 as pb

_LOG_SHOWN = 400


class Status:
    """State, progress and the newest figures."""

    def __init__(self) -> None:
        with card() as section:
            section.props["aria-label"] = "Status"
            self._content = box("stack")

    def show(self, job: pb.TrainingJob, progress: pb.Progress) -> None:
        self._content.clear()
        with self._content:
            with box("bar tight"):
                pill(*words.state(job.state))
                text(self._sentence(job, progress), "muted", "span")
            share = progress.step / progress.total_steps if progress.total_steps else 0
            track(share, f"Step {progress.step} of {progress.total_steps}")
            facts(self._facts(job, progress))
            if job.HasField("failure"):
                _failure(job.failure)

    def _sentence(self, job: pb.TrainingJob, progress: pb.Progress) -> str:
        if job.HasField("finished_at") and job.HasField("started_at"):
            took = words.seconds(job.finished_at) - words.seconds(job.started_at)
            return f"{words.ago(job.finished_at)}, after {formatting.duration(took)}"
        left = progress.time_left.ToTimedelta().total_seconds()
        if job.state == pb.JOB_STATE_RUNNING and left > 0:
            return f"{formatting.duration(left)} left"
        return f"created {words.ago(job.created_at)}"

    def _facts(self, job: pb.TrainingJob, progress: pb.Progress) -> list[tuple[str, str]]:
        if not progress.total_steps:
            return [("Step", "–"), ("Loss", "–"), ("Tokens a second", "–")]
        found = [
            ("Step", f"{progress.step:,} of {progress.total_steps:,}"),
            ("Epoch", f"{progress.epoch:.2f}"),
            ("Loss", f"{progress.loss:.4f}"),
        ]
        if progress.HasField("eval_loss"):
            found.append(("Held-out loss", f"{progress.eval_loss:.4f}"))
        found.append(("Tokens a second", f"{progress.tokens_per_second:,.0f}"))
        if progress.HasField("stop_rate"):
            found.append(("Answers that stop", words.percent(progress.stop_rate)))
        if progress.HasField("repetition_rate"):
            found.append(("Repetition", words.percent(progress.repetition_rate)))
        if job.HasField("cost"):
            found.append(("Cost", f"${job.cost:.4f}"))
        return found


def _failure(failure: pb.Failure) -> None:
    with box("note bad").props("role=alert"):
        text(f"{failure.code}: {failure.message}")
        if failure.log_tail:
            text("\n".join(failure.log_tail), "log", "pre")


class Charts:
    """Loss, learning rate, speed and the behaviour of answers over the steps."""

    def __init__(self) -> None:
        with box("grid").style("--least: 400px"):
            with card("Loss"):
                self._loss = charts.line_chart(
                    "Loss over steps",
                    [Series("training", "accent"), Series("held-out rows", "third")],
                    4,
                )
            with card("Answers"):
                self._answers = charts.line_chart(
                    "Stop rate and repetition rate over steps",
                    [Series("stop by themselves", "second"), Series("repeat themselves", "third")],
                )
                charts.as_shares(self._answers)
            with card("Learning rate"):
                self._rate = charts.line_chart(
                    "Learning rate over steps", [Series("learning rate", "fourth")]
                )
            with card("Tokens a second"):
                self._speed = charts.line_chart(
                    "Tokens a second over steps", [Series("tokens a second", "accent")]
                )

    def show(self, history: History) -> None:
        charts.set_points(self._loss, 0, history.loss.points)
        charts.set_points(self._loss, 1, history.eval_loss.points)
        charts.set_marks(self._loss, sorted(history.checkpoints))
        charts.set_points(self._answers, 0, history.stop_rate.points)
        charts.set_points(self._answers, 1, history.repetition_rate.points)
        charts.set_points(self._rate, 0, history.learning_rate.points)
        charts.set_points(self._speed, 0, history.speed.points)
        for chart in (self._loss, self._answers, self._rate, self._speed):
            chart.update()


class Answers:
    """Each question of the evaluations with its answers under each other."""

    def __init__(self) -> None:
        with card("Sample answers"):
            text("The same questions at every evaluation, answered without chance.", "muted")
            self._content = box("stack wide")
            with self._content:
                text("The first evaluation has not been made yet.", "muted")

    def show(self, history: History) -> None:
        answers = history.answers()
        if not answers:
            return
        self._content.clear()
        with self._content:
            for prompt, found in answers.items():
                with box("stack close"):
                    heading(prompt, 3).classes("wrap")
                    for step, sample in found:
                        _sample(step, sample)


def _sample(step: int, sample: pb.SampleAnswer) -> None:
    with box("sample"):
        text(f"step {step:,}", "muted small")
        text(sample.answer.strip("\n") or "(nothing)", "answer")
        if sample.looping:
            pill("loops", "bad")
        elif not sample.stopped:
            pill("goes on", "warn")
        else:
            pill("stops", "good")


class Checkpoints:
    """What was kept, to chat with, compare and export."""

    _COLUMNS = (
        Column("Compare"),
        Column("Step"),
        Column("Loss", "number"),
        Column("Held-out loss", "number"),
        Column("Size", "number"),
        Column("Saved", "short"),
        Column("", "actions"),
    )

    def __init__(self) -> None:
        self._chosen: list[str] = []
        # Whether a person has chosen; until then the choice follows what is there.
        self._was_asked = False
        with card(classes="flush") as section:
            section.props["aria-label"] = "Checkpoints"
            with box("bar apart"):
                heading("Checkpoints")
                self._compare = button("Compare in chat", self._open, icon="compare_arrows")
            self._content = box("scroll")

    def show(self, job: pb.TrainingJob) -> None:
        models = [one.model for one in job.checkpoints]
        if self._was_asked:
            self._chosen = [name for name in self._chosen if name in models]
        else:
            # The first and the last tell most.
            self._chosen = list(dict.fromkeys([*models[:1], *models[-1:]]))
        self._show_button()
        self._content.clear()
        with self._content:
            if not models:
                text("The first checkpoint has not been saved yet.", "muted").style(
                    "padding: 0 20px 20px"
                )
                return
            table(
                "Checkpoints", self._COLUMNS, [self._row(one) for one in reversed(job.checkpoints)]
            )

    def _row(self, one: pb.Checkpoint) -> list[Cell]:
        def choose() -> None:
            mark = ui.checkbox(value=one.model in self._chosen)
            mark.props["aria-label"] = f"Compare step {one.step}"
            mark.on_value_change(lambda event: self._choose(one.model, bool(event.value)))

        def step() -> None:
            with box("bar tight"):
                text(f"{one.step:,}", tag="span")
                if one.is_best:
                    pill("best", "good")
                if one.is_final:
                    pill("last")

        return [
            choose,
            step,
            f"{one.loss:.4f}",
            f"{one.eval_loss:.4f}" if one.HasField("eval_loss") else "–",
            formatting.size(one.size_bytes),
            words.ago(one.created_at),
            lambda: button("Chat", href=words.chat_path(one.model)),
        ]

    def _choose(self, model: str, wanted: bool) -> None:
        rest = [name for name in self._chosen if name != model]
        self._chosen = [*rest, model] if wanted else rest
        self._was_asked = True
        self._show_button()

    def _show_button(self) -> None:
        self._compare.set_enabled(1 < len(self._chosen) <= 3)

    def _open(self) -> None:
        ui.navigate.to(words.chat_path(*self._chosen))


class Log:
    """The newest lines that the run has printed."""

    def __init__(self) -> None:
        with card("Log"):
            self._lines = text("Nothing yet.", "log", "pre")
            self._lines.props("tabindex=0 role=log").props["aria-label"] = "Log"

    def show(self, history: History) -> None:
        lines = list(history.log)[-_LOG_SHOWN:]
        self._lines.set_text("\n".join(lines))
        ui.run_javascript(
            f"const log = getHtmlElement({self._lines.id}); "
            "if (log.scrollHeight - log.scrollTop - log.clientHeight < 80 || !log.dataset.seen)"
            " { log.dataset.seen = 1; setTimeout(() => log.scrollTop = log.scrollHeight, 50); }"
        )
