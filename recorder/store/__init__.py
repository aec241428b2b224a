"""Where bytes come to rest: ring, journal, Parquet segments, manifests."""
