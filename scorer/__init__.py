"""The gRPC server: read features, assemble the vector, infer. Imports only ``contracts``."""
