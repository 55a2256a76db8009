"""Services: the gRPC face of the daemon. The only room that knows the wire."""
