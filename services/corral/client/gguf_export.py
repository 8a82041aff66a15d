"""A model's files as one GGUF file, for llama.cpp and Ollama.

Knows nothing of servers: the files were fetched before.
"""

from __future__ import annotations

from pathlib import Path

from corral.client.channels import ignore
from corral.client.datasets import OnBytes
from corral.client.model_files import INSTALL, Downloaded
from corral.errors import InvalidRequestError


def export_gguf(
    downloaded: Downloaded, target: Path, file_type: str, on_tensor: OnBytes = ignore
) -> Path:
    """Write the model as `<folder>/model.gguf` with a Modelfile beside it; returns the file.

    Raises InvalidRequestError where the packages for it are not installed.
    """
    try:
        from corral.exporting.gguf_file import FILE_TYPES, write_gguf
    except ImportError as error:
        raise InvalidRequestError(f"GGUF can't be written: {error}.", INSTALL) from error
    from corral.data.tokenizing import TextTokenizer
    from corral.exporting.chat_template import as_jinja, modelfile

    if file_type not in FILE_TYPES:
        raise InvalidRequestError(
            f"type: {file_type!r:.40} is not known.", f"Known are {', '.join(FILE_TYPES)}."
        )
    tokenizer = TextTokenizer.from_folder(downloaded.folder)
    end = tokenizer.decode([tokenizer.eos_id], skip_special=False)
    weights = target / "model.gguf"
    write_gguf(
        downloaded.folder,
        weights,
        name=downloaded.name,
        chat_template=as_jinja(downloaded.template, end),
        file_type=file_type,  # type: ignore[arg-type]  # checked above
        on_tensor=on_tensor,
    )
    text = modelfile(downloaded.template, weights.name, end)
    (target / "Modelfile").write_text(text, encoding="utf-8")
    return weights
