"""`corral chat`: the command around a conversation, for a terminal or for a script.

On a terminal answers go to stdout, and what belongs to them to stderr. Without one, all of stdin is
one prompt, and stdout gets its answer only.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli import output
from corral.cli.flags import ServerFlag, connect
from corral.errors import InvalidRequestError

if TYPE_CHECKING:
    from corral.cli.conversation import Chatter
    from corral.v1 import inference_pb2


def chat(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Its name, or a job's id for its newest checkpoint."),
    ],
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the most likely token each time.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens of this much probability.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Draw from so many likeliest tokens; 0 keeps all.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1 repeats less.")] = None,
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
    from corral.v1 import inference_pb2

    given: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "max_tokens": max_tokens,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    set_fields = {name: value for name, value in given.items() if value is not None}
    sampling = inference_pb2.SamplingOptions(**set_fields, stop=stop or ())
    with connect(server) as client:
        if sys.stdin.isatty():
            _converse(client, model, sampling, system)
        else:
            answer_once(client, model, sys.stdin.read(), sampling, system)


def answer_once(
    chatter: Chatter,
    model: str,
    prompt: str,
    sampling: inference_pb2.SamplingOptions,
    system: str = "",
) -> None:
    """Write the answer to one prompt, and nothing else, to stdout as it comes."""
    from corral.v1 import inference_pb2

    question = prompt.removesuffix("\n").removesuffix("\r")
    if not question.strip():
        raise InvalidRequestError("There is no prompt on stdin.", "Write one, or use a terminal.")
    messages = [inference_pb2.Message(role=inference_pb2.ROLE_USER, content=question)]
    if system:
        messages.insert(0, inference_pb2.Message(role=inference_pb2.ROLE_SYSTEM, content=system))
    for response in chatter.chat(model, messages, sampling):
        _write(response.text)
    _write("\n")


def _converse(
    chatter: Chatter, model: str, sampling: inference_pb2.SamplingOptions, system: str
) -> None:
    from corral.cli.conversation import Conversation, Streams

    # Asked now, so that a name that does not exist ends the command, not the first question.
    name = chatter.get_model(model).name or model
    output.say(f"Chatting with {name}. /help lists what else can be typed.")
    streams = Streams(
        read_line=_read_line,
        write_answer=_write,
        say=lambda text: output.say(output.dim(text)),
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


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
