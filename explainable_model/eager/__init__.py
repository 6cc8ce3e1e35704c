"""A module with forward hooks: gradients by autograd."""
