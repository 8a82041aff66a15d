"""A model's files as transformers asks them: with the chat template that the model was trained with.

Knows nothing of servers: the files were fetched before.
"""

from __future__ import annotations

from corral.client.model_files import Downloaded


def write_chat_template(downloaded: Downloaded) -> None:
    """Put the template where transformers looks for it; it takes the place of the base model's."""
    from corral.data.tokenizing import TextTokenizer
    from corral.exporting.chat_template import as_jinja

    tokenizer = TextTokenizer.from_folder(downloaded.folder)
    end = tokenizer.decode([tokenizer.eos_id], skip_special=False)
    text = as_jinja(downloaded.template, end)
    (downloaded.folder / "chat_template.jinja").write_text(text, encoding="utf-8")
