"""The programs, one file per job; a job never imports another."""
