from __future__ import annotations

import io
import json

from corral.data.conversation import Message
from corral.data.questions import AnsweredQuestion, read_questions

ROWS = [
    {"instruction": "Add.", "input": "1 and 2", "output": "3"},
    {"prompt": "Who?", "completion": "Me."},
    {"instruction": "No answer."},
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
            {"role": "assistant", "content": "See you"},
        ]
    },
]


class CountingStream(io.BytesIO):
    lines = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self.lines += 1
        return super().readline(size)


def stream(rows: list[dict[str, object]]) -> CountingStream:
    return CountingStream("".join(json.dumps(row) + "\n" for row in rows).encode())


def test_rows_of_every_format_become_questions_with_their_answers() -> None:
    assert list(read_questions(stream(ROWS), [0, 1, 3])) == [
        AnsweredQuestion((Message("user", "Add.", "1 and 2"),), "3"),
        AnsweredQuestion((Message("user", "Who?"),), "Me."),
        AnsweredQuestion(
            (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye")),
            "See you",
        ),
    ]


def test_a_row_that_cannot_be_used_is_passed_over() -> None:
    assert [row.answer for row in read_questions(stream(ROWS), [1, 2])] == ["Me."]
    assert list(read_questions(stream(ROWS), [])) == []


def test_a_file_is_read_no_further_than_its_last_wanted_row() -> None:
    file = stream(ROWS[:2] * 1000)
    assert len(list(read_questions(file, [1, 3]))) == 2
    assert file.lines < 10
