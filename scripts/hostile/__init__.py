"""Good files, and what scripts/fuzz.py puts into their places."""
