"""Generated from proto/segserve/inference by `make proto`."""
