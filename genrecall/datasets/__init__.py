"""Public datasets that `genrecall data fetch` brings: addresses, checksums, and the description of their files."""
