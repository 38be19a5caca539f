"""MAPPO and IPPO: PPO for teams, by one value of the global state or by each agent's own (Yu et al. 2022)."""
