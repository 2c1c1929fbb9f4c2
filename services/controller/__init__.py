"""Runs one workload for each open launch, in one cluster or on this machine; has no database and no S3."""
