"""The report: one HTML page of findings, figures and tables about an output folder, without scripts and requests."""
