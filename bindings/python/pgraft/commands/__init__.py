"""The commands of `pgraft`, a module for each topic; `pgraft.cli` puts them together."""
