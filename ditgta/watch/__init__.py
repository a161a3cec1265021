"""How far suites are: results read while jobs write to them, as text and lines for a terminal. Needs no torch."""
