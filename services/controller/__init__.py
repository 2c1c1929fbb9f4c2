"""Holds one cluster: runs exactly one thing for each launch; no database, no S3."""
