"""Pictures on the host, with Pillow and NumPy: reading, preparing, drawing."""
