"""Mutation testing: small faults are put into a module, and its room's tests must notice. See ``__main__``."""
