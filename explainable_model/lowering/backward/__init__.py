"""A traced graph, differentiated: vector-Jacobian products in forward operations."""
