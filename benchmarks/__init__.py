"""What the library costs and what it saves, measured on a real API server: `make bench`."""
