"""The commands of `segserve`, one a module; `segserve.cli` puts them together."""
