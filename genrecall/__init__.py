"""What every part of genrecall agrees on: SIDs, bundles, records, decoding, the gRPC client, the command line.

Importing this package loads no torch: heavy modules are imported where they are used.
"""

__version__ = "0.1.0"
