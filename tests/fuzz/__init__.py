"""A differential fuzzer: random small networks, explained by the package and by code that shares nothing with it."""
