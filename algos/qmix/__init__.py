"""VDN and QMIX: value factorisation for teams with one reward (Sunehag et al. 2018, Rashid et al. 2018)."""
