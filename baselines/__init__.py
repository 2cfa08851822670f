"""The methods that the paper compares with, and simple ones that it should have compared with."""
