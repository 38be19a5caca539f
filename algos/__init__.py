"""How agents learn: batched runners, replay, and the team algorithms on RLlib's current API stack."""
