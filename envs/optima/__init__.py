"""Markets and games whose best policy is known, so that what an algorithm learned can be scored."""
