"""The command `carfs`: arguments in, one call, a table or JSON out."""
