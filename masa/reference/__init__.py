"""References: laid out for the network, and coordinates back to the visitor's own pixels."""
