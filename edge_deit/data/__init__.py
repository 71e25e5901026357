"""Photos in folders, from photo to pixels, calibration sets."""
