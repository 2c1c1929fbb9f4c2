"""One folder per program, and the modules that programs share."""

# The one source of the version: packages, images, logs and metrics read it; a test compares the chart with it.
VERSION = "0.2.0"
