"""What a person runs: train, backtest, audit and measure."""
