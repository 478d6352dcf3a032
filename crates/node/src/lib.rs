//! The driver: one replica's protocol core, log, peers and state machine on threads and sockets.
