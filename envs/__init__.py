"""What agents live in: markets, accounts, execution, and the floor that steps them."""
