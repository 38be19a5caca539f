"""What is fast, measured on the reader's own machine: each module measures both sides of a claim in one run."""
