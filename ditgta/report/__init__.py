"""The table as a reader meets it: rows and verdicts turned into text, HTML and pictures."""
