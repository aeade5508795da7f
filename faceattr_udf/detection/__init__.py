"""Face detection: RGB pixels in; boxes, confidences and landmarks out."""
