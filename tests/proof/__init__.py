"""What has to hold for a hop to be trusted, proved from outside: real processes, real sockets."""
