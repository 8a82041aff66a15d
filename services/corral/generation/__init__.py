"""From a checkpoint and a prompt to text: load, sample, stop, stream. No network."""
