"""Verifying shards, again and again: schedule, progress, quarantine, repair from replicas; and the doctor."""
