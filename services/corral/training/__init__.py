"""The run itself: `python -m corral.training run.json` for each of its processes.

Reads run.json and a data set, writes events.jsonl and checkpoints. Knows no Redis and no RPC.

Read in this order:

- `__main__`, `loop`, `step`: a run, its steps, one step.
- `preparing`, `data`, `order`: what it needs before, and which examples a step gets.
- `batches`, `attention`, `model`, `head`: from examples to a loss, without padding.
- `optimizer`, `precision`, `parallel`, `lora`: what is trained, in which type, on how many processes.
- `saving`, `snapshot`, `checkpoint_files`, `state`: checkpoints beside the steps, and going on from one.
- `evaluation`, `questions`, `answering`, `early_stopping`: what the model has learned so far.
- `divergence`, `memory`, `peers`: bad weather.

The rest is special cases: `stochastic` (weights in bf16), `flash` and `compiling` (GPUs, compilers),
`measure` (how fast this machine is), `tensor_files`, `background`.
"""
