"""The chaos harness. It starts programs while it calls others, and forks no gRPC of its own."""

import os

# Read when gRPC is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
