"""The truth about jobs: records, queue, leases and events, in Redis."""
