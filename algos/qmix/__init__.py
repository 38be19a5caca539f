"""QMIX and VDN (Rashid et al. 2018, Sunehag et al. 2018), which factorise a team's value, and IQL, which does not."""
