"""The agent: all state and every nursery of carfs; also the command line that talks to it."""
