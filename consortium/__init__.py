"""Native contracts that govern the consortium."""
