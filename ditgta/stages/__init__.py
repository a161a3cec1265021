"""The stages of the pipeline: each reads files, calls the layers below and writes files."""
