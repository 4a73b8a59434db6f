"""What is checked in a booted machine; `tests.machine` says how to add one."""
