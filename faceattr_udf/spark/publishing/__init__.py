"""Published tables on the engine: one face per person and period, and the table for others."""
