"""Whether an artifact answers as the network does."""
