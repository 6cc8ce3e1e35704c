"""What holds for detectors where nobody says something else. Imports nothing."""

DETECTION = "detection"
BOXES = 5  # explained in each photo
BOX_METHOD = "hirescam"  # a box is a place, and the mean of a gradient over places, as in Grad-CAM, forgets it
