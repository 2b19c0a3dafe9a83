"""Records to tables, charts, one HTML file and exports. Reads records only: no torch, no GPU, no data."""
