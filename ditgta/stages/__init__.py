"""The stages of the pipeline: each reads files, calls the rooms below and writes files."""
