"""Where things lie on the volume. The one place that joins paths below the data folder.

    datasets/<sha256>/          rows (the uploaded bytes), dataset.json, prepared-<key>/ (tokenized)
    runs/<job>/a<attempt>/      run.json, events.jsonl, log.txt, exit.json; in a cluster pod.json,
                                stop.json; on Modal modal.json
    checkpoints/<job>/          step-<n>-a<attempt>/ and temporary folders, see corral.checkpoints
    bases/<name>/               base models that were unpacked or imported
    precisions.json             what inference measured, see corral.inference.precision_record
    redis/                      the embedded Redis' append-only file

Knows nothing of what is in the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from corral.names import check_dataset_id, check_job_id


@dataclass(frozen=True)
class Volume:
    """A data folder, shared by every service of one Corral."""

    root: Path

    @classmethod
    def of_run_file(cls, run_file: Path) -> Volume:
        """The volume that holds a run.json: wherever it is mounted, the file knows its root."""
        return cls(run_file.resolve().parents[3])

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    def dataset(self, dataset_id: str) -> Path:
        return self.datasets / check_dataset_id(dataset_id)

    def dataset_rows(self, dataset_id: str) -> Path:
        return self.dataset(dataset_id) / "rows"

    def runs(self, job_id: str) -> Path:
        return self.root / "runs" / check_job_id(job_id)

    def run(self, job_id: str, attempt: int) -> RunFolder:
        return RunFolder(self.runs(job_id) / f"a{attempt}")

    @property
    def all_checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def checkpoints(self, job_id: str) -> Path:
        return self.all_checkpoints / check_job_id(job_id)

    @property
    def bases(self) -> Path:
        return self.root / "bases"

    @property
    def precisions(self) -> Path:
        return self.root / "precisions.json"

    @property
    def redis(self) -> Path:
        return self.root / "redis"


@dataclass(frozen=True)
class RunFolder:
    """What one attempt of a job reads and writes."""

    path: Path

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def exit_file(self) -> Path:
        return self.path / "exit.json"
