"""Leaderboards, charts, pages, exports and comparisons from records: no torch, no GPU, and data sets only for thumbnails."""
