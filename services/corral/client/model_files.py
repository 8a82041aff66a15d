"""Models to and from a server, over the Models service: a folder or a GGUF file in, a folder out.

Knows nothing of terminals: progress goes to callbacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import grpc

from corral.bases.hub import MODEL_PATTERNS
from corral.client.channels import ignore
from corral.client.datasets import OnBytes
from corral.client.wire import CHUNK_BYTES
from corral.errors import CorralError, InvalidRequestError, ModelUnsupportedError
from corral.rpc.channel import translated_errors
from corral.v1 import models_pb2, models_pb2_grpc

if TYPE_CHECKING:
    from corral.data.templates import PromptTemplate

INSTALL = "Install it with: pip install 'corral[gguf]'."


@dataclass(frozen=True)
class Downloaded:
    """A model's files in a folder, and the template that it was trained with."""

    name: str
    folder: Path
    template: PromptTemplate


class ModelFiles:
    """The Models service at `address`, reached over `channel`."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._stub = models_pb2_grpc.ModelsStub(channel)
        self._address = address

    def import_folder(
        self, source: Path, name: str, on_bytes: OnBytes = ignore
    ) -> models_pb2.BaseModel:
        """Send a Hugging Face folder, or a GGUF file, which is unpacked here first.

        Raises ModelUnsupportedError where it is neither, InvalidRequestError where it can't be
        read; and whatever the server finds wrong.
        """
        with _as_folder(source) as folder:
            files = sorted(file for pattern in MODEL_PATTERNS for file in folder.glob(pattern))
            if not files:
                raise ModelUnsupportedError(
                    f"There is no model in {source}.",
                    "A Hugging Face folder with config.json and *.safetensors is needed, or a GGUF file.",
                )
            unreadable: list[OSError] = []

            def requests() -> Iterator[models_pb2.ImportModelRequest]:
                # gRPC's sending thread runs this: an exception would only end the call.
                try:
                    yield from _requests(files, name, source.name, on_bytes)
                except OSError as error:
                    unreadable.append(error)
                    raise

            try:
                with translated_errors(self._address):
                    answer: models_pb2.ImportModelResponse = self._stub.ImportModel(requests())
            except CorralError:
                if unreadable:
                    raise InvalidRequestError(
                        f"Can't read {source}: {unreadable[0].strerror}."
                    ) from None
                raise
        return answer.model

    def pull(self, model: str, on_bytes: OnBytes = ignore) -> models_pb2.BaseModel:
        """Have the server download a model from the hub."""
        with translated_errors(self._address):
            for response in self._stub.PullModel(models_pb2.PullModelRequest(model=model)):
                if response.WhichOneof("event") == "model":
                    pulled: models_pb2.BaseModel = response.model
                    return pulled
                on_bytes(response.progress.done_bytes, response.progress.total_bytes)
        raise AssertionError("a pull ends with the model or an error")

    def download(self, model: str, folder: Path, on_bytes: OnBytes = ignore) -> Downloaded:
        """Fetch a model's files into an existing folder. Raises OSError where they can't be
        written.
        """
        from corral.data.templates import PromptTemplate

        request = models_pb2.DownloadModelRequest(model=model)
        with translated_errors(self._address):
            answers: Any = self._stub.DownloadModel(request)
            first = next(answers)
            known: dict[str, int] = {}
            done = 0
            for answer in answers:
                mode = "ab" if answer.file in known else "wb"
                known[answer.file] = answer.file_size
                # A name from the network: no folder in it may lead elsewhere.
                with (folder / Path(answer.file).name).open(mode) as file:
                    file.write(answer.chunk)
                done += len(answer.chunk)
                on_bytes(done, sum(known.values()))
        template = PromptTemplate.from_manifest(json.loads(first.template_json))
        return Downloaded(first.model, folder, template)

    def delete(self, model: str) -> None:
        """Remove an imported base model."""
        with translated_errors(self._address):
            self._stub.DeleteModel(models_pb2.DeleteModelRequest(model=model))


def _requests(
    files: list[Path], name: str, source: str, on_bytes: OnBytes
) -> Iterator[models_pb2.ImportModelRequest]:
    total = sum(file.stat().st_size for file in files)
    done = 0
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield models_pb2.ImportModelRequest(
                    name=name, source=source, file=path.name, chunk=chunk
                )
                done += len(chunk)
                on_bytes(done, total)


@contextmanager
def _as_folder(source: Path) -> Iterator[Path]:
    """The folder itself, or a temporary one with what a GGUF file holds."""
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise InvalidRequestError(f"{source} does not exist.", "Name a folder or a GGUF file.")
    try:
        from corral.bases.gguf_llama import LlamaFile
    except ImportError as error:
        raise InvalidRequestError(f"{source} can't be unpacked: {error}.", INSTALL) from error
    with TemporaryDirectory(prefix="corral-gguf-") as folder:
        LlamaFile.open(source).write_model(Path(folder))
        yield Path(folder)
