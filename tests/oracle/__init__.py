"""The specification's predicates, written a second time, and the product compared with them."""
