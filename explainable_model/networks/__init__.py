"""Loads networks from packages, folders and factories, and their weights from checkpoints."""
