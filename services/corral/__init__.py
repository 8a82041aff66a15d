"""Corral fine-tunes small language models on your own instructions and lets you chat with every checkpoint."""

__version__ = "0.1.0"
