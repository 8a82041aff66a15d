"""The door people already know: OpenAI's HTTP API in front of Corral's gRPC services."""
