"""What `make up` shows: CAR files made from this machine's own data, an agent that holds them, and a mount.

`data` makes the files, `__main__` runs the processes.  Not part of the product; needs no network.
"""
