"""Holds the database: the state machine, events, results; no S3, no cluster."""
