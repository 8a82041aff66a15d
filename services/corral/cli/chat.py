"""`corral chat`: the command around a conversation, for a terminal or for a script.

On a terminal answers go to stdout, and what belongs to them to stderr. Without one, all of stdin is
one prompt, and stdout gets its answer only. Knows nothing of how a conversation goes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import output
from corral.cli.answer_json import answer_as_json
from corral.cli.completing import complete_models
from corral.cli.flags import ServerFlag, connect, default_of
from corral.errors import InvalidRequestError
from corral.sampling import SamplingOptions

if TYPE_CHECKING:
    from corral.cli.conversation import Chatter
    from corral.cli.side_by_side import Display
    from corral.v1 import inference_pb2


def _help(field: str, text: str) -> str:
    return f"{text} {default_of(SamplingOptions, field)}"


def chat(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            autocompletion=complete_models,
            help="A model's name, or a job's id for its newest checkpoint, JOB@50 for that of a step."
            " Up to three answer side by side.",
        ),
    ],
    temperature: Annotated[
        float | None,
        typer.Option(help=_help("temperature", "0 takes the most likely token each time.")),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help=_help("top_p", "Draw from the likeliest tokens of this much probability.")
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help=_help("top_k", "Draw from so many likeliest tokens; 0 keeps all.")),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help=_help("max_tokens", "Longest answer, in tokens."))
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help=_help("repetition_penalty", "Above 1 repeats less."))
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same answer.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End before this text; repeatable.")
    ] = None,
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="A system message before the conversation.")
    ] = "",
    loop_guard: Annotated[
        bool | None,
        typer.Option(
            "--loop-guard/--no-loop-guard", help="End an answer that only repeats itself."
        ),
    ] = None,
    drop_oldest: Annotated[
        bool,
        typer.Option(
            "--drop-oldest", help="Leave out the oldest questions where the history is too long."
        ),
    ] = False,
    server: ServerFlag = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer to a prompt on stdin as JSON.")
    ] = False,
) -> None:
    """Chat with a model, or with several at once. With a prompt on stdin (echo ... | corral chat MODEL), answer just that."""
    sampling = _sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=max_tokens,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        loop_guard=loop_guard,
    )
    _check_models(models)
    with connect(server) as client:
        if sys.stdin.isatty():
            if as_json:
                raise InvalidRequestError(
                    "--json is for a prompt on stdin.", "echo ... | corral chat MODEL --json"
                )
            _converse(client, models, sampling, system, drop_oldest=drop_oldest)
            return
        messages = _messages(_prompt(sys.stdin.buffer.read()), system)
        if as_json:
            answer_as_json(client, models, messages, sampling)
        elif len(models) == 1:
            answer_once(client, models[0], messages, sampling)
        else:
            answer_side_by_side(client, models, messages, sampling)


def _check_models(models: Sequence[str]) -> None:
    from corral.cli.side_by_side import MOST_MODELS

    if len(models) > MOST_MODELS:
        raise InvalidRequestError(
            f"{len(models)} models are too many side by side.", f"Name {MOST_MODELS} at most."
        )


def answer_once(
    chatter: Chatter,
    model: str,
    messages: Sequence[inference_pb2.Message],
    sampling: inference_pb2.SamplingOptions,
) -> None:
    """Write the answer to one prompt, and nothing else, to stdout as it comes.

    Where the answer is cut or ended, stderr says so.
    """
    reason = None
    for response in chatter.chat(model, messages, sampling):
        output.piece(response.text)
        reason = response.finish.reason
    output.piece("\n")
    _say_if_ended(reason)


def answer_side_by_side(
    chatter: Chatter,
    models: Sequence[str],
    messages: Sequence[inference_pb2.Message],
    sampling: inference_pb2.SamplingOptions,
) -> None:
    """Write each model's answer to one prompt to stdout, under the model's name.

    They all draw with the same seed, which stderr tells. Raises the first error of a model once the
    others have answered.
    """
    from corral.cli.answer_displays import Blocks
    from corral.cli.answer_notes import note_of
    from corral.cli.side_by_side import Round, with_seed

    names = [chatter.get_model(model).name or model for model in models]
    seeded = with_seed(sampling)
    begin = [partial(chatter.chat, name, messages, seeded) for name in names]
    asked = Round()
    asked.ask(begin, Blocks(names, output.piece, output.say), note_of)
    if asked.was_stopped:
        raise KeyboardInterrupt
    output.say(f"Seed {seeded.seed}.")
    for answer in asked.answers:
        if answer.error is not None:
            raise answer.error


def _messages(prompt: str, system: str) -> list[inference_pb2.Message]:
    from corral.v1 import inference_pb2

    question = prompt.removesuffix("\n").removesuffix("\r")
    if not question.strip():
        raise InvalidRequestError("There is no prompt on stdin.", "Write one, or use a terminal.")
    messages = [inference_pb2.Message(role=inference_pb2.ROLE_USER, content=question)]
    if system:
        messages.insert(0, inference_pb2.Message(role=inference_pb2.ROLE_SYSTEM, content=system))
    return messages


def _say_if_ended(reason: inference_pb2.FinishReason | None) -> None:
    from corral.v1 import inference_pb2

    if reason == inference_pb2.FINISH_REASON_LENGTH:
        output.say("The answer was cut at its length limit; --max-tokens N allows more.")
    if reason == inference_pb2.FINISH_REASON_LOOP:
        output.say("The answer began to repeat itself and was ended; --no-loop-guard lets it.")


def _sampling(**given: Any) -> inference_pb2.SamplingOptions:
    """The options that were given; the server fills in the others."""
    from corral.v1 import inference_pb2

    set_fields = {name: value for name, value in given.items() if value is not None}
    return inference_pb2.SamplingOptions(**set_fields)


def _prompt(data: bytes) -> str:
    """Raises InvalidRequestError for what is not UTF-8."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The prompt on stdin is not UTF-8: byte 0x{data[error.start]:02x} at {error.start}.",
            "Convert it to UTF-8 first.",
        ) from None


def _converse(
    chatter: Chatter,
    models: Sequence[str],
    sampling: inference_pb2.SamplingOptions,
    system: str,
    *,
    drop_oldest: bool,
) -> None:
    from corral.cli.conversation import Conversation, Streams
    from corral.cli.line_reading import Terminal, history_file, read_message

    # Asked now, so that a name that does not exist ends the command, not the first question.
    names = [chatter.get_model(model).name or model for model in models]
    output.say(f"Chatting with {' and '.join(names)}. /help lists what else can be typed.")
    terminal = Terminal(history_file())
    streams = Streams(
        read_line=partial(read_message, terminal.read_line),
        write_answer=output.piece,
        say=lambda text: output.say(text, dim=True),
        side_by_side=_display,
    )
    try:
        Conversation(chatter, streams, names, sampling, system, drop_oldest=drop_oldest).run()
    finally:
        terminal.save()


def _display(names: Sequence[str]) -> Display:
    """Columns where there is a terminal wide enough for them, else one answer below the other."""
    from corral.cli.answer_displays import Blocks, Columns, fits_columns

    if sys.stdout.isatty() and output.is_live():
        from rich.console import Console

        console = Console(highlight=False)
        if fits_columns(len(names), console.width):
            return Columns(names, console)
    return Blocks(names, output.piece, lambda text: output.say(text, dim=True))
