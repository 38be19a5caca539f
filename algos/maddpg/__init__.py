"""MADDPG: an actor for each agent, judged by critics that see what all observe and do (Lowe et al. 2017)."""
