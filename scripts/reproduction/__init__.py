"""The paper's tables and figures: what is run for them, and what is made of the results."""
