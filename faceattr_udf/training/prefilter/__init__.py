"""Training of the prefilter in front of P-Net: synthetic scenes, targets from the cascade, and the fit."""
