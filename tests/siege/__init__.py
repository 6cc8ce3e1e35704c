"""Hostile and broken input for every entrance of the library. See ``__main__``."""
