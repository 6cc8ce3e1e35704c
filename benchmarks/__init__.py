"""Measurements of explainable_model: run with ``python -m benchmarks``."""
