"""Admits heavy work only as far as the memory, CPUs and processes that are left allow."""
