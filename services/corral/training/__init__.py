"""The run itself: `torchrun -m corral.training run.json`.

Reads run.json and a data set, writes events.jsonl and checkpoints. Knows no Redis and no RPC.
"""
