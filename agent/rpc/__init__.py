"""The agent's interface: JSON-RPC 2.0 and event streams over HTTP."""
