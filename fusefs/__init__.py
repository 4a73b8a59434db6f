"""The FUSE mount: shards as directories, read straight from their CAR files through carlib."""
