"""Mutators: each makes inputs of one sort and gives them to a running service, or to sandboxed processes."""
