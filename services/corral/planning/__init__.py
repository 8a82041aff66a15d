"""What a run will take before anything is spent: steps, tokens, memory, time, disk. Arithmetic on
config.json and the lengths of the rows; no tensors, no network.
"""
