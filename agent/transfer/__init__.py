"""Data on its way in: verified as it arrives, from several sources, resumable after every break."""
