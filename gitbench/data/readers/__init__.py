"""Readers of data folders, one file a layout."""
