"""Rules that several programs share: limits, exit codes, failure codes, transient answers of S3."""
