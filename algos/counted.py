"""Counted randomness: seeds that follow from what is drawn, so that nothing has to be remembered."""

_MASK = (1 << 64) - 1


def counted_seed(*counters: int) -> int:
    """Mix counters (a seed, a process, a draw) into one seed by SplitMix64 (Steele, Lea and Flood 2014).

    Args:
        counters: Non-negative integers; their order matters.

    Returns:
        An integer in [0, 2**63), as torch and NumPy take it.
    """
    state = 0x9E3779B97F4A7C15
    for counter in counters:
        state = (state ^ (counter & _MASK)) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
