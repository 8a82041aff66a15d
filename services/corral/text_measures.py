"""How much a sequence repeats itself: the figures that tell a looping model from a sound one.

Works on any sequence: token ids while they are generated, or `pieces` of a text, which do not depend
on a tokenizer and so compare across models. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

NGRAM = 4
# As Holtzman et al. 2020 (The Curious Case of Neural Text Degeneration) count repetition: a phrase of
# at least two tokens that stands at least three times at the end of what was generated.
SHORTEST_PHRASE = 2
LOOP_TIMES = 3
# In scripts without spaces between words each character is a piece.
_PIECE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")
# A longer word is taken as characters: a model may loop within one.
_LONGEST_WORD = 30


def pieces(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case."""
    found = _PIECE.findall(text.lower())
    return [piece for word in found for piece in (word if len(word) > _LONGEST_WORD else (word,))]


def repetition(sequence: Sequence[Hashable], n: int = NGRAM) -> float:
    """The share of n-grams that stood in the sequence before: 0 for none, near 1 for a loop.

    seq-rep-n of Welleck et al. 2020 (Neural Text Generation with Unlikelihood Training):
    1 - different n-grams / n-grams. A sequence with fewer than two of them repeats nothing.
    """
    ngrams = [tuple(sequence[at : at + n]) for at in range(len(sequence) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def loop_length(
    sequence: Sequence[Hashable], *, times: int = LOOP_TIMES, shortest: int = SHORTEST_PHRASE
) -> int:
    """The length of the shortest phrase that fills the sequence's end at least `times` times in a
    row; 0 where it ends in no loop. A phrase has at least `shortest` items, which may be equal.

    Quadratic in the worst case; a guard that looks at each new token gives it the last few hundred.
    """
    length = len(sequence)
    for phrase in range(shortest, length // times + 1):
        repeated = phrase * (times - 1)
        if all(
            sequence[at] == sequence[at - phrase]
            for at in range(length - 1, length - repeated - 1, -1)
        ):
            return phrase
    return 0


def ends_in_loop(text: str, *, is_cut: bool) -> bool:
    """Whether a text ends in the same phrase again and again. One that was cut, which is how loops
    usually end, may have been cut within the phrase; that changes nothing, since a phrase may begin
    anywhere. A text that stopped by itself got out of its loop.
    """
    return is_cut and loop_length(pieces(text)) > 0
