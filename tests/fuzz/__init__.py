"""Fuzzing by coverage: `make fuzz` feeds each parser with bytes that reach new places in it."""
