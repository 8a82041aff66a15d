import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_STARTING: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_CANCELLING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_PAUSED: _ClassVar[JobState]
    JOB_STATE_PAUSING: _ClassVar[JobState]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_STARTING: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_CANCELLING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_PAUSED: JobState
JOB_STATE_PAUSING: JobState

class GetServerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerResponse(_message.Message):
    __slots__ = ("version", "inference_address", "launcher")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    version: str
    inference_address: str
    launcher: str
    def __init__(self, version: _Optional[str] = ..., inference_address: _Optional[str] = ..., launcher: _Optional[str] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("id", "filename", "size_bytes", "format", "report", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    filename: str
    size_bytes: int
    format: str
    report: DatasetReport
    created_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., filename: _Optional[str] = ..., size_bytes: _Optional[int] = ..., format: _Optional[str] = ..., report: _Optional[_Union[DatasetReport, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DatasetReport(_message.Message):
    __slots__ = ("rows", "usable_rows", "problems", "problem_count")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    USABLE_ROWS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    rows: int
    usable_rows: int
    problems: _containers.RepeatedCompositeFieldContainer[RowProblem]
    problem_count: int
    def __init__(self, rows: _Optional[int] = ..., usable_rows: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[RowProblem, _Mapping]]] = ..., problem_count: _Optional[int] = ...) -> None: ...

class RowProblem(_message.Message):
    __slots__ = ("row", "line", "field", "code", "message", "excerpt", "severity")
    class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEVERITY_UNSPECIFIED: _ClassVar[RowProblem.Severity]
        SEVERITY_WARNING: _ClassVar[RowProblem.Severity]
        SEVERITY_ERROR: _ClassVar[RowProblem.Severity]
    SEVERITY_UNSPECIFIED: RowProblem.Severity
    SEVERITY_WARNING: RowProblem.Severity
    SEVERITY_ERROR: RowProblem.Severity
    ROW_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXCERPT_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    row: int
    line: int
    field: str
    code: str
    message: str
    excerpt: str
    severity: RowProblem.Severity
    def __init__(self, row: _Optional[int] = ..., line: _Optional[int] = ..., field: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., excerpt: _Optional[str] = ..., severity: _Optional[_Union[RowProblem.Severity, str]] = ...) -> None: ...

class UploadDatasetRequest(_message.Message):
    __slots__ = ("filename", "chunk")
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    filename: str
    chunk: bytes
    def __init__(self, filename: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: Dataset
    def __init__(self, dataset: _Optional[_Union[Dataset, _Mapping]] = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("dataset_id",)
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    def __init__(self, dataset_id: _Optional[str] = ...) -> None: ...

class GetDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: Dataset
    def __init__(self, dataset: _Optional[_Union[Dataset, _Mapping]] = ...) -> None: ...

class DownloadDatasetRequest(_message.Message):
    __slots__ = ("dataset_id",)
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    def __init__(self, dataset_id: _Optional[str] = ...) -> None: ...

class DownloadDatasetResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets", "next_page_token")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    next_page_token: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteDatasetRequest(_message.Message):
    __slots__ = ("dataset_id",)
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    def __init__(self, dataset_id: _Optional[str] = ...) -> None: ...

class DeleteDatasetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckDatasetRequest(_message.Message):
    __slots__ = ("dataset_id", "spec")
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    spec: TrainingSpec
    def __init__(self, dataset_id: _Optional[str] = ..., spec: _Optional[_Union[TrainingSpec, _Mapping]] = ...) -> None: ...

class CheckDatasetResponse(_message.Message):
    __slots__ = ("report", "tokens", "examples")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    report: DatasetReport
    tokens: TokenStats
    examples: _containers.RepeatedCompositeFieldContainer[RenderedExample]
    def __init__(self, report: _Optional[_Union[DatasetReport, _Mapping]] = ..., tokens: _Optional[_Union[TokenStats, _Mapping]] = ..., examples: _Optional[_Iterable[_Union[RenderedExample, _Mapping]]] = ...) -> None: ...

class TokenStats(_message.Message):
    __slots__ = ("mean", "p50", "p90", "max", "total", "trained", "too_long", "max_length", "histogram")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    TOO_LONG_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    mean: float
    p50: int
    p90: int
    max: int
    total: int
    trained: int
    too_long: int
    max_length: int
    histogram: _containers.RepeatedCompositeFieldContainer[TokenLengths]
    def __init__(self, mean: _Optional[float] = ..., p50: _Optional[int] = ..., p90: _Optional[int] = ..., max: _Optional[int] = ..., total: _Optional[int] = ..., trained: _Optional[int] = ..., too_long: _Optional[int] = ..., max_length: _Optional[int] = ..., histogram: _Optional[_Iterable[_Union[TokenLengths, _Mapping]]] = ...) -> None: ...

class TokenLengths(_message.Message):
    __slots__ = ("length", "rows")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    length: int
    rows: int
    def __init__(self, length: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class RenderedExample(_message.Message):
    __slots__ = ("row", "line", "pieces")
    ROW_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    row: int
    line: int
    pieces: _containers.RepeatedCompositeFieldContainer[ExamplePiece]
    def __init__(self, row: _Optional[int] = ..., line: _Optional[int] = ..., pieces: _Optional[_Iterable[_Union[ExamplePiece, _Mapping]]] = ...) -> None: ...

class ExamplePiece(_message.Message):
    __slots__ = ("text", "trained")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    text: str
    trained: bool
    def __init__(self, text: _Optional[str] = ..., trained: bool = ...) -> None: ...

class TrainingSpec(_message.Message):
    __slots__ = ("model", "epochs", "max_steps", "learning_rate", "lr_scheduler", "warmup_ratio", "weight_decay", "batch_size", "gradient_accumulation_steps", "max_length", "precision", "max_grad_norm", "seed", "fsdp", "fsdp_wrap", "processes", "checkpoint_every", "keep_checkpoints", "template", "preamble", "template_source", "suffix", "eval_split", "nodes", "packing", "gradient_checkpointing", "compile", "tuning", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "backend", "gpu", "max_cost", "timeout_hours", "keep_volume", "learning_rate_multiplier", "eval_every", "eval_prompts", "early_stopping", "early_stopping_patience", "eval_max_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    LR_SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    WARMUP_RATIO_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_ACCUMULATION_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    MAX_GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FSDP_FIELD_NUMBER: _ClassVar[int]
    FSDP_WRAP_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    KEEP_CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    PREAMBLE_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    SUFFIX_FIELD_NUMBER: _ClassVar[int]
    EVAL_SPLIT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    PACKING_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    COMPILE_FIELD_NUMBER: _ClassVar[int]
    TUNING_FIELD_NUMBER: _ClassVar[int]
    LORA_RANK_FIELD_NUMBER: _ClassVar[int]
    LORA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    LORA_DROPOUT_FIELD_NUMBER: _ClassVar[int]
    LORA_TARGETS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    MAX_COST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_HOURS_FIELD_NUMBER: _ClassVar[int]
    KEEP_VOLUME_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    EVAL_EVERY_FIELD_NUMBER: _ClassVar[int]
    EVAL_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    EARLY_STOPPING_FIELD_NUMBER: _ClassVar[int]
    EARLY_STOPPING_PATIENCE_FIELD_NUMBER: _ClassVar[int]
    EVAL_MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    epochs: int
    max_steps: int
    learning_rate: float
    lr_scheduler: str
    warmup_ratio: float
    weight_decay: float
    batch_size: int
    gradient_accumulation_steps: int
    max_length: int
    precision: str
    max_grad_norm: float
    seed: int
    fsdp: str
    fsdp_wrap: str
    processes: int
    checkpoint_every: int
    keep_checkpoints: int
    template: str
    preamble: str
    template_source: str
    suffix: str
    eval_split: float
    nodes: int
    packing: bool
    gradient_checkpointing: bool
    compile: bool
    tuning: str
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: str
    backend: str
    gpu: str
    max_cost: float
    timeout_hours: float
    keep_volume: bool
    learning_rate_multiplier: float
    eval_every: int
    eval_prompts: int
    early_stopping: str
    early_stopping_patience: int
    eval_max_tokens: int
    def __init__(self, model: _Optional[str] = ..., epochs: _Optional[int] = ..., max_steps: _Optional[int] = ..., learning_rate: _Optional[float] = ..., lr_scheduler: _Optional[str] = ..., warmup_ratio: _Optional[float] = ..., weight_decay: _Optional[float] = ..., batch_size: _Optional[int] = ..., gradient_accumulation_steps: _Optional[int] = ..., max_length: _Optional[int] = ..., precision: _Optional[str] = ..., max_grad_norm: _Optional[float] = ..., seed: _Optional[int] = ..., fsdp: _Optional[str] = ..., fsdp_wrap: _Optional[str] = ..., processes: _Optional[int] = ..., checkpoint_every: _Optional[int] = ..., keep_checkpoints: _Optional[int] = ..., template: _Optional[str] = ..., preamble: _Optional[str] = ..., template_source: _Optional[str] = ..., suffix: _Optional[str] = ..., eval_split: _Optional[float] = ..., nodes: _Optional[int] = ..., packing: bool = ..., gradient_checkpointing: bool = ..., compile: bool = ..., tuning: _Optional[str] = ..., lora_rank: _Optional[int] = ..., lora_alpha: _Optional[float] = ..., lora_dropout: _Optional[float] = ..., lora_targets: _Optional[str] = ..., backend: _Optional[str] = ..., gpu: _Optional[str] = ..., max_cost: _Optional[float] = ..., timeout_hours: _Optional[float] = ..., keep_volume: bool = ..., learning_rate_multiplier: _Optional[float] = ..., eval_every: _Optional[int] = ..., eval_prompts: _Optional[int] = ..., early_stopping: _Optional[str] = ..., early_stopping_patience: _Optional[int] = ..., eval_max_tokens: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "log_tail")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LOG_TAIL_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    log_tail: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., log_tail: _Optional[_Iterable[str]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "total_steps", "epoch", "loss", "eval_loss", "tokens_per_second", "time_left", "cost", "stop_rate", "repetition_rate", "answer_tokens")
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    EVAL_LOSS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    STOP_RATE_FIELD_NUMBER: _ClassVar[int]
    REPETITION_RATE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    step: int
    total_steps: int
    epoch: float
    loss: float
    eval_loss: float
    tokens_per_second: float
    time_left: _duration_pb2.Duration
    cost: float
    stop_rate: float
    repetition_rate: float
    answer_tokens: float
    def __init__(self, step: _Optional[int] = ..., total_steps: _Optional[int] = ..., epoch: _Optional[float] = ..., loss: _Optional[float] = ..., eval_loss: _Optional[float] = ..., tokens_per_second: _Optional[float] = ..., time_left: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cost: _Optional[float] = ..., stop_rate: _Optional[float] = ..., repetition_rate: _Optional[float] = ..., answer_tokens: _Optional[float] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("model", "step", "attempt", "size_bytes", "loss", "eval_loss", "is_final", "created_at", "is_best", "stop_rate", "repetition_rate")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    EVAL_LOSS_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    IS_BEST_FIELD_NUMBER: _ClassVar[int]
    STOP_RATE_FIELD_NUMBER: _ClassVar[int]
    REPETITION_RATE_FIELD_NUMBER: _ClassVar[int]
    model: str
    step: int
    attempt: int
    size_bytes: int
    loss: float
    eval_loss: float
    is_final: bool
    created_at: _timestamp_pb2.Timestamp
    is_best: bool
    stop_rate: float
    repetition_rate: float
    def __init__(self, model: _Optional[str] = ..., step: _Optional[int] = ..., attempt: _Optional[int] = ..., size_bytes: _Optional[int] = ..., loss: _Optional[float] = ..., eval_loss: _Optional[float] = ..., is_final: bool = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., is_best: bool = ..., stop_rate: _Optional[float] = ..., repetition_rate: _Optional[float] = ...) -> None: ...

class TrainingJob(_message.Message):
    __slots__ = ("id", "state", "spec", "dataset_id", "attempt", "progress", "failure", "checkpoints", "fine_tuned_model", "effective_batch_size", "created_at", "started_at", "finished_at", "last_event", "cost", "metadata", "spending")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    FINE_TUNED_MODEL_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPENDING_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: JobState
    spec: TrainingSpec
    dataset_id: str
    attempt: int
    progress: Progress
    failure: Failure
    checkpoints: _containers.RepeatedCompositeFieldContainer[Checkpoint]
    fine_tuned_model: str
    effective_batch_size: int
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    last_event: int
    cost: float
    metadata: _containers.ScalarMap[str, str]
    spending: Spending
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., spec: _Optional[_Union[TrainingSpec, _Mapping]] = ..., dataset_id: _Optional[str] = ..., attempt: _Optional[int] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., checkpoints: _Optional[_Iterable[_Union[Checkpoint, _Mapping]]] = ..., fine_tuned_model: _Optional[str] = ..., effective_batch_size: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_event: _Optional[int] = ..., cost: _Optional[float] = ..., metadata: _Optional[_Mapping[str, str]] = ..., spending: _Optional[_Union[Spending, _Mapping]] = ...) -> None: ...

class Spending(_message.Message):
    __slots__ = ("gpu", "queued", "running")
    GPU_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    gpu: str
    queued: _duration_pb2.Duration
    running: _duration_pb2.Duration
    def __init__(self, gpu: _Optional[str] = ..., queued: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., running: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PlanTrainingJobRequest(_message.Message):
    __slots__ = ("dataset_id", "spec", "device", "quick")
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    QUICK_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    spec: TrainingSpec
    device: str
    quick: bool
    def __init__(self, dataset_id: _Optional[str] = ..., spec: _Optional[_Union[TrainingSpec, _Mapping]] = ..., device: _Optional[str] = ..., quick: bool = ...) -> None: ...

class PlanTrainingJobResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: TrainingPlan
    def __init__(self, plan: _Optional[_Union[TrainingPlan, _Mapping]] = ...) -> None: ...

class TrainingPlan(_message.Message):
    __slots__ = ("spec", "device", "device_memory", "fits", "memory", "needed", "parameters", "trainable_parameters", "rows", "held_out_rows", "steps", "tokens", "label_share", "padding_waste", "packing_waste", "largest_batch_size", "shortest", "longest", "time_source", "checkpoint_size", "disk", "proposals", "lowest_cost", "highest_cost")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MEMORY_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_ROWS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LABEL_SHARE_FIELD_NUMBER: _ClassVar[int]
    PADDING_WASTE_FIELD_NUMBER: _ClassVar[int]
    PACKING_WASTE_FIELD_NUMBER: _ClassVar[int]
    LARGEST_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SHORTEST_FIELD_NUMBER: _ClassVar[int]
    LONGEST_FIELD_NUMBER: _ClassVar[int]
    TIME_SOURCE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SIZE_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    LOWEST_COST_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_COST_FIELD_NUMBER: _ClassVar[int]
    spec: TrainingSpec
    device: str
    device_memory: int
    fits: bool
    memory: MemoryPlan
    needed: int
    parameters: int
    trainable_parameters: int
    rows: int
    held_out_rows: int
    steps: int
    tokens: int
    label_share: float
    padding_waste: float
    packing_waste: float
    largest_batch_size: int
    shortest: _duration_pb2.Duration
    longest: _duration_pb2.Duration
    time_source: str
    checkpoint_size: int
    disk: int
    proposals: _containers.RepeatedCompositeFieldContainer[PlanProposal]
    lowest_cost: float
    highest_cost: float
    def __init__(self, spec: _Optional[_Union[TrainingSpec, _Mapping]] = ..., device: _Optional[str] = ..., device_memory: _Optional[int] = ..., fits: bool = ..., memory: _Optional[_Union[MemoryPlan, _Mapping]] = ..., needed: _Optional[int] = ..., parameters: _Optional[int] = ..., trainable_parameters: _Optional[int] = ..., rows: _Optional[int] = ..., held_out_rows: _Optional[int] = ..., steps: _Optional[int] = ..., tokens: _Optional[int] = ..., label_share: _Optional[float] = ..., padding_waste: _Optional[float] = ..., packing_waste: _Optional[float] = ..., largest_batch_size: _Optional[int] = ..., shortest: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., longest: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time_source: _Optional[str] = ..., checkpoint_size: _Optional[int] = ..., disk: _Optional[int] = ..., proposals: _Optional[_Iterable[_Union[PlanProposal, _Mapping]]] = ..., lowest_cost: _Optional[float] = ..., highest_cost: _Optional[float] = ...) -> None: ...

class MemoryPlan(_message.Message):
    __slots__ = ("runtime", "weights", "gradients", "optimizer", "activations", "logits", "saving", "total")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    SAVING_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    runtime: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    saving: int
    total: int
    def __init__(self, runtime: _Optional[int] = ..., weights: _Optional[int] = ..., gradients: _Optional[int] = ..., optimizer: _Optional[int] = ..., activations: _Optional[int] = ..., logits: _Optional[int] = ..., saving: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class PlanProposal(_message.Message):
    __slots__ = ("changes", "description", "memory", "fits")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    changes: TrainingSpec
    description: str
    memory: MemoryPlan
    fits: bool
    def __init__(self, changes: _Optional[_Union[TrainingSpec, _Mapping]] = ..., description: _Optional[str] = ..., memory: _Optional[_Union[MemoryPlan, _Mapping]] = ..., fits: bool = ...) -> None: ...

class CreateTrainingJobRequest(_message.Message):
    __slots__ = ("dataset_id", "spec", "idempotency_key", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    dataset_id: str
    spec: TrainingSpec
    idempotency_key: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, dataset_id: _Optional[str] = ..., spec: _Optional[_Union[TrainingSpec, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CreateTrainingJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: TrainingJob
    def __init__(self, job: _Optional[_Union[TrainingJob, _Mapping]] = ...) -> None: ...

class GetTrainingJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetTrainingJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: TrainingJob
    def __init__(self, job: _Optional[_Union[TrainingJob, _Mapping]] = ...) -> None: ...

class ListTrainingJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ...) -> None: ...

class ListTrainingJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[TrainingJob]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[TrainingJob, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchTrainingJobRequest(_message.Message):
    __slots__ = ("job_id", "after_event")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_EVENT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_event: int
    def __init__(self, job_id: _Optional[str] = ..., after_event: _Optional[int] = ...) -> None: ...

class WatchTrainingJobResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: TrainingEvent
    def __init__(self, event: _Optional[_Union[TrainingEvent, _Mapping]] = ...) -> None: ...

class CancelTrainingJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelTrainingJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: TrainingJob
    def __init__(self, job: _Optional[_Union[TrainingJob, _Mapping]] = ...) -> None: ...

class PauseTrainingJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class PauseTrainingJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: TrainingJob
    def __init__(self, job: _Optional[_Union[TrainingJob, _Mapping]] = ...) -> None: ...

class ResumeTrainingJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ResumeTrainingJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: TrainingJob
    def __init__(self, job: _Optional[_Union[TrainingJob, _Mapping]] = ...) -> None: ...

class DeleteTrainingJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class DeleteTrainingJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TrainingEvent(_message.Message):
    __slots__ = ("number", "time", "attempt", "state_change", "metrics", "log_line", "checkpoint", "evaluation")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    LOG_LINE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    number: int
    time: _timestamp_pb2.Timestamp
    attempt: int
    state_change: StateChange
    metrics: Metrics
    log_line: LogLine
    checkpoint: Checkpoint
    evaluation: Evaluation
    def __init__(self, number: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempt: _Optional[int] = ..., state_change: _Optional[_Union[StateChange, _Mapping]] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., log_line: _Optional[_Union[LogLine, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., evaluation: _Optional[_Union[Evaluation, _Mapping]] = ...) -> None: ...

class StateChange(_message.Message):
    __slots__ = ("state", "reason", "failure")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    reason: str
    failure: Failure
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., reason: _Optional[str] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("progress", "learning_rate", "gradient_norm")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    learning_rate: float
    gradient_norm: float
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., learning_rate: _Optional[float] = ..., gradient_norm: _Optional[float] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("step", "eval_loss", "perplexity", "stop_rate", "repetition_rate", "looping_rate", "answer_tokens", "samples", "took", "is_best")
    STEP_FIELD_NUMBER: _ClassVar[int]
    EVAL_LOSS_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    STOP_RATE_FIELD_NUMBER: _ClassVar[int]
    REPETITION_RATE_FIELD_NUMBER: _ClassVar[int]
    LOOPING_RATE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    IS_BEST_FIELD_NUMBER: _ClassVar[int]
    step: int
    eval_loss: float
    perplexity: float
    stop_rate: float
    repetition_rate: float
    looping_rate: float
    answer_tokens: float
    samples: _containers.RepeatedCompositeFieldContainer[SampleAnswer]
    took: _duration_pb2.Duration
    is_best: bool
    def __init__(self, step: _Optional[int] = ..., eval_loss: _Optional[float] = ..., perplexity: _Optional[float] = ..., stop_rate: _Optional[float] = ..., repetition_rate: _Optional[float] = ..., looping_rate: _Optional[float] = ..., answer_tokens: _Optional[float] = ..., samples: _Optional[_Iterable[_Union[SampleAnswer, _Mapping]]] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., is_best: bool = ...) -> None: ...

class SampleAnswer(_message.Message):
    __slots__ = ("prompt", "answer", "tokens", "stopped", "repetition", "looping")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    REPETITION_FIELD_NUMBER: _ClassVar[int]
    LOOPING_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    answer: str
    tokens: int
    stopped: bool
    repetition: float
    looping: bool
    def __init__(self, prompt: _Optional[str] = ..., answer: _Optional[str] = ..., tokens: _Optional[int] = ..., stopped: bool = ..., repetition: _Optional[float] = ..., looping: bool = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("text", "is_notice")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_NOTICE_FIELD_NUMBER: _ClassVar[int]
    text: str
    is_notice: bool
    def __init__(self, text: _Optional[str] = ..., is_notice: bool = ...) -> None: ...
