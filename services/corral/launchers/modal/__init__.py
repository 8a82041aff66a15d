"""The launcher that runs each attempt on Modal's GPUs. Knows nothing of the queue."""
