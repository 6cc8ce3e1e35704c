"""Where a network comes from: a package, a folder, a factory, a checkpoint."""
