"""Training of the screen in front of P-Net: pictures with many faces, where the cascade finds them, and the fit."""
