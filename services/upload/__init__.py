"""The service that holds the S3 credentials: signs, verifies and deletes. No database, no cluster."""
