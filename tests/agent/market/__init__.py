"""Tests of storage deals."""
