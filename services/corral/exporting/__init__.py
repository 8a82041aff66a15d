"""A model's folder in other programs' forms: GGUF for llama.cpp, and a Modelfile for Ollama. No torch."""
