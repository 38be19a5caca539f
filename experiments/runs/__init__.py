"""A run and its folder: what it is, what it holds, what is wrong with it."""
