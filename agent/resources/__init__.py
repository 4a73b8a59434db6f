"""What this process may use of the machine, and how much of that is left: limits, each with where it came from."""
