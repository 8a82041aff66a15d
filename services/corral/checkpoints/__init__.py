"""Checkpoints as files: write whole or not at all, verify, list. No tensors, no network."""
