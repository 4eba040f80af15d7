"""What dev.py is made of, beyond its own file."""
