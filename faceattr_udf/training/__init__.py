"""Training the attribute networks and exporting what ships; the only part of the package that needs torch."""
