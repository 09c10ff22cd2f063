"""`acl doctor`: what a machine has, what of it is known to be wrong, and what to do about it."""
