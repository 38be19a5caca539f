"""Learners tested on years that they have not seen."""
