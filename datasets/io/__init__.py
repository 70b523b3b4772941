"""Files: where data lives, downloads, the cache of decoded data, and readers that trust nothing."""
