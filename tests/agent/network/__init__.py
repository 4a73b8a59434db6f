"""Tests of what the agent knows of the network."""
