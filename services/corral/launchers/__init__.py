"""Where a run runs. A launcher starts, polls and stops; it knows nothing of the queue."""
