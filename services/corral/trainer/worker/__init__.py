"""Takes jobs off the queue, starts their runs, tells the store how they go, publishes checkpoints."""
