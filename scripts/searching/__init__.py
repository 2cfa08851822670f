"""What scripts/search.py is made of."""
