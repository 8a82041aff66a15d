"""`corral chat`: the command around a conversation, for a terminal or for a script.

On a terminal answers go to stdout, and what belongs to them to stderr. Without one, all of stdin is
one prompt, and stdout gets its answer only. Knows nothing of how a conversation goes.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import output
from corral.cli.flags import ServerFlag, connect, default_of
from corral.errors import InvalidRequestError
from corral.sampling import SamplingOptions

if TYPE_CHECKING:
    from corral.cli.conversation import Chatter
    from corral.v1 import inference_pb2


def _help(field: str, text: str) -> str:
    return f"{text} {default_of(SamplingOptions, field)}"


def chat(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Its name, or a job's id for its newest checkpoint."),
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
    server: ServerFlag = None,
) -> None:
    """Chat with a model. With a prompt on stdin (echo ... | corral chat MODEL), answer just that."""
    sampling = _sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=max_tokens,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
    )
    with connect(server) as client:
        if sys.stdin.isatty():
            _converse(client, model, sampling, system)
        else:
            answer_once(client, model, _prompt(sys.stdin.buffer.read()), sampling, system)


def answer_once(
    chatter: Chatter,
    model: str,
    prompt: str,
    sampling: inference_pb2.SamplingOptions,
    system: str = "",
) -> None:
    """Write the answer to one prompt, and nothing else, to stdout as it comes.

    Where the answer is cut, stderr says so.
    """
    from corral.v1 import inference_pb2

    question = prompt.removesuffix("\n").removesuffix("\r")
    if not question.strip():
        raise InvalidRequestError("There is no prompt on stdin.", "Write one, or use a terminal.")
    messages = [inference_pb2.Message(role=inference_pb2.ROLE_USER, content=question)]
    if system:
        messages.insert(0, inference_pb2.Message(role=inference_pb2.ROLE_SYSTEM, content=system))
    is_cut = False
    for response in chatter.chat(model, messages, sampling):
        output.piece(response.text)
        is_cut = response.finish.reason == inference_pb2.FINISH_REASON_LENGTH
    output.piece("\n")
    if is_cut:
        output.say("The answer was cut at its length limit; --max-tokens N allows more.")


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
    chatter: Chatter, model: str, sampling: inference_pb2.SamplingOptions, system: str
) -> None:
    from corral.cli.conversation import Conversation, Streams

    # Asked now, so that a name that does not exist ends the command, not the first question.
    name = chatter.get_model(model).name or model
    output.say(f"Chatting with {name}. /help lists what else can be typed.")
    streams = Streams(
        read_line=_read_line,
        write_answer=output.piece,
        say=lambda text: output.say(text, dim=True),
    )
    Conversation(chatter, streams, name, sampling, system).run()


def _read_line(prompt: str) -> str:
    """A line that is typed. The prompt stays out of a redirected stdout."""
    # Imported for its effect: input() then edits lines and recalls earlier ones.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    if sys.stdout.isatty():
        return input(prompt)
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return input()
