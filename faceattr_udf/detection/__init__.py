"""RGB pixels -> faces: boxes, confidences and landmarks."""
