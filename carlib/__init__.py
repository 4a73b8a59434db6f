"""CAR files and what is in them: bytes to values and back, without I/O loops, logs or sockets."""
