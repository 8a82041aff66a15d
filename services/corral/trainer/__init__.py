"""The gRPC trainer service, and the worker that takes jobs off the queue and launches their runs."""
