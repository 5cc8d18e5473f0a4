"""Pictures: read, resized, degraded, relit, measured, written. Nothing here knows the network."""
