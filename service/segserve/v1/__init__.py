"""Generated from proto/segserve/v1 by `make proto`."""
