"""The body of dev.py: a module for each subject, with the standard library alone; cli.py is the door."""
