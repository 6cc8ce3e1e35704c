"""Reads files of strangers before a runtime does, and accepts only what the exporters of this library write."""
