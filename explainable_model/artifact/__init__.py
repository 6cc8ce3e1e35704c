"""What an artifact says about itself: its record, its fixed answer, its runner. Imports no torch."""
