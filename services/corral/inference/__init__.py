"""The gRPC chat service: which models there are, which are loaded, whose turn it is."""
