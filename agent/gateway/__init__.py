"""Data on its way out: the trustless gateway and pieces over HTTP."""
