"""Holds the S3 credentials: presigning, preflight, deletion; no database, no cluster."""
