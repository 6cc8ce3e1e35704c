"""What holds for detectors where nobody says something else. Imports nothing."""

DETECTION = "detection"
BOXES = 5  # explained in each photo
