"""What runs a network, and the choice of it on this host; see docs/extend.md."""
