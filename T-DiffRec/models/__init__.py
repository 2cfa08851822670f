"""The models of T-DiffRec: DiffRec's, unchanged. What changes is their input (data_utils.py)."""
