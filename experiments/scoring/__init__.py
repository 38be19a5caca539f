"""Learners scored where the best policy is known."""
