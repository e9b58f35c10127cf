"""`mockservice verify`: lanes tested on this machine, before they go to a cluster."""
