"""Where images come from: folders, archives, tables and Parquet, all listed by one rule and read in place."""
